"""`quota-agent` as a person uses it: real processes, a unix socket, and a controller that comes and goes."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from quotafleet.link.messages import FenceKind, OverrideState, OverrideUpdate
from tests.agent_kit import (
    AGENT,
    TOKEN,
    AgentProcess,
    FakeController,
    agent_process,
    quota_agent,
    quota_agent_async,
    serve,
    write_credential,
)

#: Nobody listens there.
NOWHERE = "127.0.0.1:1"


async def grant(folder: Path, *, decimals: int = 0, **limits: int) -> None:
    """Let an agent in `folder` be welcomed with these limits, and stop it again."""
    controller = FakeController()
    for name, limit in limits.items():
        controller.want(name, limit, decimals=decimals)
    async with serve(controller) as port:
        with agent_process(folder, f"127.0.0.1:{port}") as agent:
            await controller.until(lambda heard: len(heard.view) == len(limits))
            await asyncio.to_thread(agent.stop)


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """An agent that was granted limits once, and has no controller now."""
    folder = tmp_path_factory.mktemp("offline")
    asyncio.run(grant(folder, visits=5, seats=1_000, bytes=10))
    with agent_process(folder, NOWHERE) as agent:
        yield agent


def test_acquire_release_and_status_work_without_the_controller(offline: AgentProcess) -> None:
    """What was granted before goes on being enforced."""
    granted = quota_agent(
        offline.socket, "acquire", "visits", "--amount", "4", "--request-id", "r-1", "--json"
    )
    assert granted.code == 0
    assert granted.json["entry"]["request_id"] == "r-1"
    assert granted.json["balance"] == {"count": 4, "held": 0, "remaining": 1, "limit": 5}
    refused = quota_agent(offline.socket, "acquire", "visits", "--amount", "2")
    assert refused.code == 1
    assert "QUOTA_REACHED" in refused.err
    assert "quota-agent override request" in refused.err
    rest = quota_agent(offline.socket, "acquire", "visits", "--amount", "2", "--up-to")
    assert (rest.code, "counted 1 of visits" in rest.out) == (0, True)
    released = quota_agent(offline.socket, "release", "visits", "r-1")
    assert (released.code, "released 4 of visits" in released.out) == (0, True)
    status = quota_agent(offline.socket, "status")
    assert status.code == 0
    assert AGENT in status.out
    assert "not connected" in status.out


def test_the_same_request_id_counts_once(offline: AgentProcess) -> None:
    """A repeat gets the same answer, another request under the id a refusal."""
    arguments = ("acquire", "seats", "--amount", "3", "--request-id", "twice", "--json")
    first, second = quota_agent(offline.socket, *arguments), quota_agent(offline.socket, *arguments)
    assert first.json["entry"] == second.json["entry"]
    assert first.json["balance"]["count"] == second.json["balance"]["count"]
    other = quota_agent(
        offline.socket, "acquire", "seats", "--amount", "4", "--request-id", "twice", "--json"
    )
    assert (other.code, other.json["error"]["reason"]) == (1, "REQUEST_ID_REUSED")


def test_a_hold_is_committed_or_cancelled(offline: AgentProcess) -> None:
    """Held units are set aside until then."""
    for request_id, verb, state in (("h-1", "commit", "COUNTED"), ("h-2", "cancel", "CANCELLED")):
        held = quota_agent(
            offline.socket, "acquire", "seats", "--request-id", request_id, "--hold", "1h", "--json"
        )
        assert held.json["entry"]["state"] == "HELD"
        assert held.json["entry"]["expire_time"].endswith("Z")
        ended = quota_agent(offline.socket, verb, "seats", request_id, "--json")
        assert (ended.code, ended.json["entry"]["state"]) == (0, state)


def test_entries_show_their_labels(offline: AgentProcess) -> None:
    """In the order they were granted, a page after the other, filtered by state."""
    for number in range(3):
        quota_agent(
            offline.socket, "acquire", "bytes", "--request-id", f"e-{number}", "--label", f"n={number}"
        )
    quota_agent(offline.socket, "release", "bytes", "e-1")
    shown = quota_agent(offline.socket, "entries", "bytes")
    assert [shown.out.index(f"e-{number}") for number in range(3)] == sorted(
        shown.out.index(f"e-{number}") for number in range(3)
    )
    assert "n=2" in shown.out
    released = quota_agent(offline.socket, "entries", "bytes", "--state", "released", "--json")
    assert [(entry["request_id"], entry["labels"]) for entry in released.json["entries"]] == [
        ("e-1", {"n": "1"})
    ]
    cut = quota_agent(offline.socket, "entries", "bytes", "--limit", "2")
    assert "there are more than 2" in cut.out


def test_ids_are_never_cut(offline: AgentProcess) -> None:
    """Other commands need them; an id may also follow --request-id, as with acquire."""
    long_id = "long-" * 25
    quota_agent(offline.socket, "acquire", "seats", "--request-id", long_id, "--label", "l=" + "v" * 200)
    shown = subprocess.run(
        [sys.executable, "-m", "quota_agent.cli.main", "entries", "seats", "--socket", str(offline.socket)],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    assert f"{long_id}  counted" in shown.stdout
    released = quota_agent(offline.socket, "release", "seats", "--request-id", long_id)
    assert (released.code, "released 1 of seats" in released.out) == (0, True)


async def test_amounts_are_written_as_they_are_shown(tmp_path: Path) -> None:
    """With the decimals of their quota, by every command; under --json they are integers."""
    await grant(tmp_path, decimals=3, kwh=5_000)
    with agent_process(tmp_path, NOWHERE) as agent:
        acquire = ("acquire", "kwh", "--request-id", "a")
        for refused in (acquire, (*acquire, "--amount", "1234")):
            ran = await quota_agent_async(agent.socket, *refused)
            assert (ran.code, "--amount" in ran.err) == (2, True)
        granted = await quota_agent_async(agent.socket, *acquire, "--amount", "1.234")
        assert granted.code == 0
        assert "counted 1.234 of kwh" in granted.out
        assert "count 1.234  held 0.000  remaining 3.766  limit 5.000" in granted.out
        again = await quota_agent_async(agent.socket, *acquire, "--amount", "1.234", "--json")
        assert (again.json["granted"], again.json["balance"]["count"]) == (1_234, 1_234)
        asked = await quota_agent_async(
            agent.socket, "override", "request", "kwh", "--amount", "9.5", "--reason", "cold"
        )
        assert "pending 9.500 of kwh" in asked.out
        assert "9.500" in (await quota_agent_async(agent.socket, "status")).out
        assert " 1.234" in (await quota_agent_async(agent.socket, "entries", "kwh")).out
        assert "released 1.234 of kwh" in (await quota_agent_async(agent.socket, "release", "kwh", "a")).out


def test_errors_are_json_too(offline: AgentProcess, tmp_path: Path) -> None:
    """One object on stdout and nothing else, whoever found the error, under the usual exit code."""
    for code, reason, arguments in (
        (1, "NOT_ASSIGNED", ("acquire", "no-such-quota")),
        (2, "FIELD_INVALID", ("acquire", "Not a name")),
        (2, "INVALID_ARGUMENT", ("acquire", "seats", "--amount", "many")),
        (2, "INVALID_ARGUMENT", ("acquire",)),
        (2, "INVALID_ARGUMENT", ("release", "seats")),
        (2, "INVALID_ARGUMENT", ("status", "--no-such-option")),
        (2, "INVALID_ARGUMENT", ("no-such-command",)),
        (2, "INVALID_ARGUMENT", ("override", "request", "seats")),
        (3, "UNAVAILABLE", ("status", "--socket", str(tmp_path / "nobody.sock"))),
    ):
        ran = quota_agent(offline.socket, *arguments, "--json")
        assert (ran.code, ran.json["error"]["reason"], ran.err) == (code, reason, "")
        assert ran.json["error"]["message"]


def test_the_version_is_told(tmp_path: Path) -> None:
    """That of the package."""
    told = quota_agent(tmp_path / "s", "--version")
    assert (told.code, told.out.strip()) == (0, version("quotafleet"))


async def test_a_command_waits_for_an_agent_that_begins(tmp_path: Path) -> None:
    """A script may start the agent and use it at once."""
    await grant(tmp_path, visits=5)
    asking = asyncio.create_task(quota_agent_async(tmp_path / "agent.sock", "acquire", "visits"))
    with agent_process(tmp_path, NOWHERE):
        assert (await asking).code == 0


def test_exit_codes_tell_what_happened(offline: AgentProcess, tmp_path: Path) -> None:
    """0 granted, 1 refused, 2 bad usage, 3 nobody there."""
    assert quota_agent(offline.socket, "acquire", "no-such-quota").code == 1
    assert quota_agent(offline.socket, "acquire", "Not a name").code == 2
    assert quota_agent(offline.socket, "acquire", "seats", "--amount", "0").code == 2
    assert quota_agent(offline.socket, "acquire", "seats", "--amount", "9" * 30).code == 2
    assert quota_agent(offline.socket, "acquire", "seats", "--hold", "soon").code == 2
    assert quota_agent(offline.socket, "acquire", "seats", "--label", "novalue").code == 2
    assert quota_agent(offline.socket, "acquire").code == 2
    absent = quota_agent(tmp_path / "nobody.sock", "status")
    assert absent.code == 3
    assert "--socket" in absent.err


def test_socket_and_store_belong_to_their_owner_alone(offline: AgentProcess) -> None:
    """Whoever reaches the socket can spend."""
    assert stat.S_IMODE(offline.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE((offline.socket.parent / "agent.sqlite").stat().st_mode) == 0o600


def test_a_second_agent_on_the_same_folder_is_refused(offline: AgentProcess) -> None:
    """Two agents on one store would count twice."""
    folder = offline.socket.parent
    command = ("run", "--data-dir", str(folder), "--credential", str(folder / "credential.json"))
    second = quota_agent(offline.socket, *command, "--controller", NOWHERE)
    assert second.code == 1
    assert "in use by another process" in second.err
    assert "Traceback" not in second.err


def test_an_override_can_be_asked_for_offline(offline: AgentProcess) -> None:
    """The ask is durable and waits for a link."""
    asked = quota_agent(
        offline.socket,
        *("override", "request", "visits", "--amount", "9", "--reason", "a bus has arrived"),
        *("--request-id", "o-1", "--json"),
    )
    assert (asked.code, asked.json["override"]["state"]) == (0, "PENDING")
    assert "o-1" in quota_agent(offline.socket, "status").out


async def test_limits_survive_kill_and_restart(tmp_path: Path) -> None:
    """Every answered acquisition is there after SIGKILL, without any controller."""
    await grant(tmp_path, visits=5)
    for count in (1, 2, 3):
        with agent_process(tmp_path, NOWHERE) as agent:
            granted = await quota_agent_async(agent.socket, "acquire", "visits", "--json")
            assert granted.json["balance"]["count"] == count
            agent.kill()


async def test_sigterm_finishes_and_leaves_no_socket(tmp_path: Path) -> None:
    """Exit code 0; the socket is gone; the secrets never were in the log."""
    await grant(tmp_path, visits=5)
    with agent_process(tmp_path, NOWHERE) as agent:
        await quota_agent_async(
            agent.socket, "acquire", "visits", "--request-id", "private-id", "--label", "who=private-person"
        )
        errors = await asyncio.to_thread(agent.stop)
        assert agent.process.returncode == 0
        assert not agent.socket.exists()
        logged = "".join(agent.log) + errors
        assert "quota-agent stopped" in logged
        for secret in (TOKEN, "private-id", "private-person"):
            assert secret not in logged


async def test_a_second_signal_leaves_at_once(tmp_path: Path) -> None:
    """Even though a call is still waiting for more limit."""
    controller = FakeController()
    controller.want("visits", 0)
    async with serve(controller) as port:
        with agent_process(tmp_path, f"127.0.0.1:{port}") as agent:
            waiting = asyncio.create_task(
                quota_agent_async(agent.socket, "acquire", "visits", "--max-wait", "10s")
            )
            await controller.until(
                lambda heard: any(standing.open_requests for standing in heard.view.values())
            )
            agent.process.send_signal(signal.SIGTERM)
            assert agent.process.stderr is not None
            while "stopping" not in await asyncio.to_thread(agent.process.stderr.readline):
                pass
            assert agent.process.poll() is None
            agent.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(agent.process.wait, 5) == 128 + signal.SIGTERM
            assert (await waiting).code == 3


async def test_the_agent_follows_its_controller(tmp_path: Path) -> None:
    """New limits arrive, counts go up, asks are answered, and a lost controller is found again at the next address."""
    controller = FakeController()
    controller.want("visits", 5)
    async with serve(controller) as port, serve(controller) as other:
        with agent_process(tmp_path, f"127.0.0.1:{port}", f"127.0.0.1:{other}") as agent:
            await controller.until(lambda heard: "uid-visits" in heard.view)
            await quota_agent_async(agent.socket, "acquire", "visits", "--amount", "5")
            await controller.until(lambda heard: heard.view["uid-visits"].totals.consumed == 5)
            controller.want("visits", 8)
            await controller.until(lambda heard: heard.view["uid-visits"].limit == 8)
            asked = (
                "override",
                "request",
                "visits",
                "--amount",
                "9",
                "--reason",
                "bus",
                "--request-id",
                "o-1",
            )
            await quota_agent_async(agent.socket, *asked)
            await controller.until(lambda heard: bool(heard.reports[-1].asks))
            approved = OverrideUpdate("over-1", "o-1", "uid-visits", 9, OverrideState.APPROVED)
            controller.overrides["over-1"] = approved
            dials = len(controller.hellos)
            for outbox in controller.streams:
                outbox.put_nowait(None)  # type: ignore[arg-type]  # ends the stream with an error
            await controller.until(lambda heard: len(heard.hellos) > dials)
            await controller.until(lambda heard: bool(heard.reports[-1].overrides))
            approved_now = await quota_agent_async(agent.socket, *asked)
            assert "quota-agent acquire visits --amount 9 --override over-1" in approved_now.out
            spent = await quota_agent_async(
                agent.socket, "acquire", "visits", "--amount", "8", "--override", "over-1"
            )
            assert "the other 1 of it are lost" in spent.out
            spent = await quota_agent_async(
                agent.socket,
                *("acquire", "visits", "--amount", "8", "--override", "over-1", "--request-id", "again"),
            )
            assert (spent.code, "OVERRIDE_DECIDED" in spent.err, "ask for another" in spent.err) == (
                1,
                True,
                True,
            )
            entry = (await quota_agent_async(agent.socket, "entries", "visits", "--json")).json["entries"][-1]
            assert entry["override_id"] == "over-1"
            status = (await quota_agent_async(agent.socket, "status", "--json")).json
            assert status["connected"]
            assert status["quotas"][0]["overridden"] == 8


async def test_a_waiting_acquire_gets_what_the_controller_adds(tmp_path: Path) -> None:
    """The ask goes up at once, not with the next heartbeat."""
    controller = FakeController(heartbeat_ms=60_000)
    controller.want("visits", 0)
    async with serve(controller) as port:
        with agent_process(tmp_path, f"127.0.0.1:{port}") as agent:
            await controller.until(lambda heard: "uid-visits" in heard.view)
            waiting = asyncio.create_task(
                quota_agent_async(agent.socket, "acquire", "visits", "--max-wait", "10s", "--json")
            )
            await controller.until(lambda heard: bool(heard.view["uid-visits"].open_requests))
            controller.want("visits", 1)
            assert (await waiting).code == 0


async def test_a_fenced_agent_spends_nothing_any_more(tmp_path: Path) -> None:
    """It says its final totals once, and stops dialling for good."""
    await grant(tmp_path, visits=5)
    controller = FakeController(fence=FenceKind.ENDED)
    async with serve(controller) as port:
        with agent_process(tmp_path, f"127.0.0.1:{port}") as agent:
            await controller.until(lambda heard: bool(heard.fence_acks))
            refused = await quota_agent_async(agent.socket, "acquire", "visits", "--json")
            assert (refused.code, refused.json["error"]["reason"]) == (1, "AGENT_FENCED")
            logged = await asyncio.to_thread(agent.stop)
            assert "has recorded this agent's final totals" in logged
            assert "dialling has ended" in logged
            assert "no link" not in logged
        with agent_process(tmp_path, f"127.0.0.1:{port}") as agent:
            refused = await quota_agent_async(agent.socket, "acquire", "visits", "--json")
            assert (refused.code, refused.json["error"]["reason"]) == (1, "AGENT_FENCED")
    assert len(controller.hellos) == 1


async def test_a_rejected_credential_is_said_clearly(tmp_path: Path) -> None:
    """The agent goes on serving, and logs what to do, without the token."""
    write_credential(tmp_path / "credential.json", "wrong-token")
    async with serve(FakeController()) as port:
        with agent_process(tmp_path, f"127.0.0.1:{port}") as agent:
            assert agent.process.stderr is not None
            said = ""  # the call may break before its status is read; then the agent dials again
            async with asyncio.timeout(30):
                while "rejects this agent's credential" not in said:
                    said += await asyncio.to_thread(agent.process.stderr.readline)
            assert "wrong-token" not in said
            refused = await quota_agent_async(agent.socket, "acquire", "visits", "--json")
            assert refused.json["error"]["reason"] == "NOT_ENROLLED"
