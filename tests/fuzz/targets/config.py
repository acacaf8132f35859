"""Settings: the agent's credential file, and what controller and agent are told on their command lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import typer

from quota_agent.cli.run import _check_controller
from quota_agent.config import BadConfig, read_credential
from quota_agent.local.server import CannotListen, loopback_address
from quota_server.config import ConfigInvalid, ServerConfig, is_loopback
from tests.fuzz.mutate import frames, json_values, text
from tests.fuzz.mutate.frames import Frame
from tests.fuzz.target import Target

_SECRET: Final = "qfa1.9b1c.1.s3cret-s3cret-s3cret"
#: Of fewer characters, a token may stand anywhere by chance.
_LONG: Final = 20
_CREDENTIAL: Final = {"agent": "leeds", "agent_uid": "9b1c", "epoch": "1", "token": _SECRET}


def check(data: bytes) -> None:
    """Each setting is taken, or refused by the error that is written for it."""
    for frame in frames.unpack(data):
        _CHECKS[frame.operation % len(_CHECKS)](frame.body)


def check_credential(content: bytes) -> None:
    """What is taken can be sent as metadata of a call; a refusal names the file and repeats nothing of it."""
    file = os.memfd_create("credential")
    try:
        os.fchmod(file, 0o600)
        os.write(file, content)
        path = Path(f"/proc/self/fd/{file}")
        try:
            credential = read_credential(path)
        except BadConfig as error:
            assert str(path) in str(error), f"the refusal does not name the file: {error}"
            assert _SECRET not in str(error), "the refusal has the secret in it"
            return
    finally:
        os.close(file)
    for value in (credential.agent, credential.agent_uid, credential.token):
        assert value and value.isascii() and value.isprintable(), f"cannot be sent: {value!r}"
    assert 1 <= credential.epoch < 2**63
    by_chance = len(credential.token) < _LONG or credential.token in credential.agent
    assert by_chance or credential.token not in repr(credential), "the secret is shown"


def check_listen(content: bytes) -> None:
    """Only loopback, only a port; the refusal repeats what was given."""
    listen = content.decode(errors="replace")
    try:
        loopback_address(listen)
    except CannotListen as error:
        assert str(error), "the refusal says nothing"
    try:
        ServerConfig(Path("data"), listen)
    except ConfigInvalid as error:
        assert str(error).startswith("--listen"), f"the refusal names no setting: {error}"
        return
    host, _, port = listen.rpartition(":")
    assert is_loopback(host)
    assert 0 <= int(port) <= 65_535


def check_heartbeat(content: bytes) -> None:
    """An interval within bounds."""
    heartbeat_ms = int.from_bytes(content[:9], "little", signed=True)
    try:
        ServerConfig(Path("data"), heartbeat_ms=heartbeat_ms)
    except ConfigInvalid as error:
        assert "--heartbeat" in str(error)
        return
    assert 10 <= heartbeat_ms <= 3_600_000


def check_controller(content: bytes) -> None:
    """The address of a controller, which has to be on this machine."""
    address = content.decode(errors="replace")
    try:
        _check_controller(address, insecure=False)
    except typer.BadParameter as error:
        assert error.param_hint == "--controller"
        assert repr(address) in error.message
        return
    host, _, port = address.rpartition(":")
    assert is_loopback(host)
    assert 1 <= int(port) <= 65_535


_CHECKS: Final = (check_credential, check_listen, check_controller, check_heartbeat)


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """JSON where there is JSON, else words."""
    return frames.mutate(data, other, random, _body, operations=len(_CHECKS))


def _body(frame: Frame, random: Random) -> bytes:
    if frame.operation % len(_CHECKS) == 0:
        return json_values.mutate(frame.body or b"{}", _credential(), random)
    return text.change(frame.body.decode(errors="replace"), random).encode(errors="replace")


def _credential(**changes: object) -> bytes:
    return json.dumps({**_CREDENTIAL, **changes}).encode()


def seeds() -> Iterator[bytes]:
    """Good settings."""
    yield frames.pack([Frame(0, _credential())])
    yield frames.pack([Frame(0, b'{"agent":"a","agentUid":"u","epoch":3,"token":"t"}')])
    for address in ("127.0.0.1:7400", "[::1]:7400", "localhost:0"):
        yield frames.pack([Frame(1, address.encode()), Frame(2, address.encode())])
    yield frames.pack([Frame(3, (5_000).to_bytes(8, "little"))])


TARGET: Final = Target("config", check, mutate, seeds, max_bytes=8 * 1024)
