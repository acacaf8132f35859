"""The master key and what is derived from it: the key of session marks, and the agents' tokens.

The database holds no secret of an agent: a token is a MAC over whom it is for, so it can be checked, and written again,
by whoever holds the master key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import stat
import struct
from pathlib import Path

from quota_server.errors import QuotaServerError
from quota_server.ledger.model import AgentKey

KEY_BYTES = 32
_TOKEN_PREFIX = "qfa1"


class KeyUnusable(QuotaServerError):
    """The master key file cannot be used; the message says why."""


class TokenInvalid(QuotaServerError):
    """The token was not made with this master key."""


class MasterKey:
    """A secret of 32 random bytes."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise KeyUnusable(f"a master key has {KEY_BYTES} bytes, not {len(secret)}")
        self._secret = secret

    @property
    def fingerprint(self) -> str:
        """Tells keys apart without revealing them."""
        return self._derive(b"fingerprint").hex()[:16]

    @property
    def mark_key(self) -> bytes:
        """The key of session marks."""
        return self._derive(b"session marks")

    def token(self, agent: AgentKey) -> str:
        """The token of one enrolment."""
        claim = f"{agent.agent_uid}.{agent.epoch}"
        mac = hmac.digest(self._derive(b"agent tokens"), claim.encode(), hashlib.sha256)
        text = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
        return f"{_TOKEN_PREFIX}.{claim}.{text}"

    def agent_of(self, token: str) -> AgentKey:
        """Whose token this is, compared in constant time. Raises TokenInvalid."""
        parts = token.split(".")
        if len(parts) != 4 or not parts[2].isdecimal() or len(parts[2]) > 18:
            raise TokenInvalid("this is not a token")
        agent = AgentKey(parts[1], int(parts[2]))
        if not hmac.compare_digest(token.encode(), self.token(agent).encode()):
            raise TokenInvalid("this token was made with another key")
        return agent

    def _derive(self, purpose: bytes) -> bytes:
        text = b"quotafleet key" + struct.pack(">I", len(purpose)) + purpose
        return hmac.digest(self._secret, text, hashlib.sha256)


def load_or_create(path: Path) -> MasterKey:
    """The key in `path`, made (mode 0600) if there is none. Raises KeyUnusable if others could read it."""
    try:
        return _load(path)
    except FileNotFoundError:
        pass
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # the first of two makers wins; nobody reads half a key
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    _sync_directory(path.parent)
    return _load(path)


def _load(path: Path) -> MasterKey:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise KeyUnusable(f"{path} can be read by others (mode {mode:04o}): chmod 600 it")
        secret = file.read()
    try:
        return MasterKey(secret)
    except KeyUnusable as error:
        raise KeyUnusable(f"{path}: {error}") from None


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
