"""The fleet of the demo: one controller and an agent per site, each a process, each agent on its own line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from examples.demo.common import HEARTBEAT_SECONDS, DemoFailed
from examples.demo.operator import Operator
from examples.demo.processes import Process, port_to_keep, program
from examples.demo.proxy import Line


class Fleet:
    """Everything that runs; leaving its context ends all of it."""

    def __init__(self, folder: Path, names: Iterable[str], target: int) -> None:
        """`target` is the quota's, to begin with."""
        self._folder = folder
        self._target = target
        self._names = tuple(names)
        self._exit = contextlib.AsyncExitStack()
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.controller: Process
        self.operator: Operator
        self.agents: dict[str, Process] = {}
        self.lines: dict[str, Line] = {}

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._exit = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def watch(self) -> None:
        """Raises DemoFailed when a process ends that nobody has ended; otherwise waits for ever."""
        raise DemoFailed(await self._failed)

    def socket(self, name: str) -> Path:
        """The socket of a site's agent."""
        return self._folder / name / "gate.sock"

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        listen = await self._start_controller(stack)
        host, _, port = listen.rpartition(":")
        self.operator = await stack.enter_async_context(Operator(listen))
        await self.operator.open_quota(self._target)
        for name in self._names:
            self.lines[name] = await stack.enter_async_context(Line((host, int(port))))
            self.agents[name] = self._agent(name, await self.operator.add_agent(name))
        stack.push_async_callback(self._stop_agents)
        async with asyncio.TaskGroup() as tasks:
            for agent in self.agents.values():
                tasks.create_task(agent.start())

    async def _start_controller(self, stack: contextlib.AsyncExitStack) -> str:
        """Start it on a port that is still free when it is started again. Answers HOST:PORT."""
        data, log = self._folder / "controller", self._folder / "controller.log"
        listen = f"127.0.0.1:{port_to_keep()}"
        options = ["--data-dir", str(data), "--heartbeat", str(HEARTBEAT_SECONDS), "--listen", listen]
        command = [program("quota-server"), "serve", *options]
        self.controller = Process("the controller", command, log, "quota-server ready address=", self._died)
        stack.push_async_callback(self.controller.stop)
        await self.controller.start()
        return listen

    def _agent(self, name: str, credential: str) -> Process:
        folder = self._folder / name
        folder.mkdir()
        secret = folder / "credential.json"
        secret.touch(mode=0o600)
        secret.write_text(credential, encoding="utf-8")
        options = {
            "--data-dir": folder / "data",
            "--credential": secret,
            "--controller": self.lines[name].address,
            "--socket": self.socket(name),
        }
        command = [
            program("quota-agent"),
            "run",
            *(str(part) for option in options.items() for part in option),
        ]
        log = self._folder / f"{name}.log"
        return Process(f"the agent of {name}", command, log, "quota-agent ready socket=", self._died)

    async def _stop_agents(self) -> None:
        results = await asyncio.gather(
            *(agent.stop() for agent in self.agents.values()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _died(self, said: str) -> None:
        if not self._failed.done():
            self._failed.set_result(said)
