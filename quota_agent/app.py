"""The agent's composition root: everything is made, joined and taken apart here."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import uuid
from typing import Final

from quota_agent.clock import SystemClock
from quota_agent.config import BadConfig, Config
from quota_agent.gate.gate import Gate
from quota_agent.gate.model import GateSettings
from quota_agent.local.server import LocalServer, SocketLost
from quota_agent.local.service import GateServicer
from quota_agent.store.sqlite import SqliteStore
from quota_agent.uplink.dialling import GrpcDial
from quota_agent.uplink.stream import Uplink

log = logging.getLogger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
#: How often the app looks whether its socket is still there.
SOCKET_CHECK_SECONDS: Final = 2.0


async def run(config: Config, *, socket_check_seconds: float = SOCKET_CHECK_SECONDS) -> None:
    """Run the agent until SIGTERM or SIGINT; a second signal leaves at once, which loses nothing.

    Raises AgentError if it cannot begin or loses its socket: the message says why and what to do.
    """
    if not __debug__:
        raise BadConfig("python -O would switch off the gate's checks: run without it")
    stop = asyncio.Event()
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, _on_signal, number, stop)
    await asyncio.to_thread(config.data_dir.mkdir, mode=0o700, parents=True, exist_ok=True)
    async with (
        SqliteStore(config.store) as store,
        Gate.open(store, SystemClock(), GateSettings(), lambda: uuid.uuid4().hex) as gate,
    ):
        who = config.credential
        await gate.bind(who.agent, who.agent_uid, who.epoch)
        if config.reset_clock is not None:
            await gate.reset_clock(config.reset_clock)
        await _serve(config, gate, stop, socket_check_seconds)
    log.info("quota-agent stopped")


async def _serve(config: Config, gate: Gate, stop: asyncio.Event, check_seconds: float) -> None:
    """Serve until told to stop; then finish what is in flight.

    The uplink outlives the calls: those that wait for more limit may still get it. A task that fails ends all.
    """
    uplink = Uplink(gate, SystemClock(), targets=config.controllers, dial=GrpcDial(config.credential.token))
    servicer = GateServicer(gate, lambda: uplink.connected)
    async with (
        LocalServer(
            servicer, config.socket, listen=config.listen, grace_seconds=config.grace_seconds
        ) as server,
        asyncio.TaskGroup() as group,
    ):
        guard = group.create_task(_guard_socket(server, stop, check_seconds), name="socket")
        tasks = [
            guard,
            group.create_task(uplink.run(), name="uplink"),
            group.create_task(_follow_health(gate, server), name="health"),
            group.create_task(gate.watch_writer(), name="gate"),
        ]
        await server.set_healthy(gate.healthy)  # before anybody is told that it is ready
        log.info("quota-agent ready socket=%s%s", config.socket, _also(config, server))
        await stop.wait()
        lost = guard.done()
        log.info("quota-agent stopping: finishing what is in flight")
        await server.drain()
        for task in tasks:
            task.cancel()
    if lost:
        raise SocketLost(
            f"{config.socket} was removed or replaced, so no command could reach this agent: nothing is lost, start it"
            " again"
        )


async def _guard_socket(server: LocalServer, stop: asyncio.Event, seconds: float) -> None:
    """Return, and stop the app, once somebody removed or replaced the socket: nobody can find the agent then."""
    while server.owns_socket:  # noqa: ASYNC110 - nobody tells of it: it has to be looked for
        await asyncio.sleep(seconds)
    stop.set()


async def _follow_health(gate: Gate, server: LocalServer) -> None:
    """Keep the health service in step with the store."""
    changed = asyncio.Event()
    gate.watch_health(lambda _healthy: changed.set())
    while True:
        changed.clear()
        await server.set_healthy(gate.healthy)
        await changed.wait()


def _also(config: Config, server: LocalServer) -> str:
    if config.listen is None:
        return ""
    return f" listen={config.listen.rpartition(':')[0]}:{server.port}"


def _on_signal(number: signal.Signals, stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(128 + number)  # whatever was answered is on disk
    stop.set()
