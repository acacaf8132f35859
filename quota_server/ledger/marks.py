"""Session marks on the wire: numbered, authenticated, opaque to agents."""

from __future__ import annotations

import hashlib
import hmac
import struct

from quota_server.ledger.model import AgentKey, Mark

_NUMBERS = struct.Struct(">BQQ")
_VERSION = 1
_MAC_BYTES = 16


class MarkForged(Exception):
    """The mark was not made with this controller's key for this (agent, epoch)."""


class Marks:
    """Writes and reads the marks of every agent under one secret key of at least 32 bytes."""

    def __init__(self, key: bytes) -> None:
        assert len(key) >= 32, "the key of session marks has at least 256 bits"
        self._key = key

    def encode(self, agent: AgentKey, mark: Mark) -> bytes:
        """The bytes that the agent stores and presents."""
        numbers = _NUMBERS.pack(_VERSION, mark.generation, mark.number)
        return numbers + self._mac(agent, numbers)

    def decode(self, agent: AgentKey, presented: bytes) -> Mark:
        """The mark in `presented`; empty is the mark that nobody was given. Raises MarkForged."""
        if not presented:
            return Mark()
        numbers, mac = presented[: _NUMBERS.size], presented[_NUMBERS.size :]
        if len(numbers) != _NUMBERS.size or not hmac.compare_digest(mac, self._mac(agent, numbers)):
            raise MarkForged
        version, generation, number = _NUMBERS.unpack(numbers)
        if version != _VERSION or number == 0:
            raise MarkForged
        return Mark(generation, number)

    def _mac(self, agent: AgentKey, numbers: bytes) -> bytes:
        uid = agent.agent_uid.encode()
        text = b"quotafleet mark" + struct.pack(">IQ", len(uid), agent.epoch) + uid + numbers
        return hmac.digest(self._key, text, hashlib.sha256)[:_MAC_BYTES]
