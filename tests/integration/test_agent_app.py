"""The agent's composition root: what becomes of the whole when a part of it fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quota_agent import app
from quota_agent.config import Config, read_credential
from quota_agent.gate.answers import Answers
from quota_agent.gate.model import GateSettings
from quota_agent.local.server import LocalServer, SocketLost
from tests.agent_kit import write_credential


async def test_an_agent_whose_writer_died_ends_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would stay up and refuse everything for good; whoever supervises it starts it again."""
    monkeypatch.setattr(Answers, "settled", lambda *_: 1 / 0)
    monkeypatch.setattr(
        app, "GateSettings", lambda: GateSettings(touch_ms=1)
    )  # its first group comes by itself
    config = Config(
        tmp_path, read_credential(write_credential(tmp_path / "credential.json")), ("127.0.0.1:1",),
        tmp_path / "agent.sock", grace_seconds=0,
    )  # fmt: skip
    with pytest.raises((ZeroDivisionError, ExceptionGroup)) as raised:
        await asyncio.wait_for(app.run(config), 30)
    error: BaseException | None = raised.value
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ZeroDivisionError)


@pytest.mark.parametrize("replaced", [False, True])
async def test_an_agent_whose_socket_is_gone_ends_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """Else it would run on, holding its store, where no command finds it; a file in its place is left alone."""
    path = tmp_path / "agent.sock"
    config = Config(
        tmp_path, read_credential(write_credential(tmp_path / "credential.json")), ("127.0.0.1:1",), path,
        grace_seconds=0,
    )  # fmt: skip
    told = LocalServer.set_healthy

    async def ready(server: LocalServer, healthy: bool) -> None:
        await told(server, healthy)
        path.unlink(missing_ok=True)
        if replaced:
            path.write_text("mine")

    monkeypatch.setattr(LocalServer, "set_healthy", ready)
    with pytest.raises(SocketLost, match="was removed or replaced"):
        await asyncio.wait_for(app.run(config, socket_check_seconds=0.001), 30)
    assert path.exists() is replaced
