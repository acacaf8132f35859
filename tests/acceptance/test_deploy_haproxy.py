"""The configurations of HAProxy fit each other and the programs, and an agent reaches a controller through both."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from quota_server.config import DEFAULT_LISTEN
from tests.acceptance.test_readme import ROOT
from tests.ports import free_port
from tests.server_kit import Fleet, open_controller

CONTROLLERS = (ROOT / "deploy" / "postgres" / "haproxy.cfg").read_text()
AGENT = (ROOT / "deploy" / "postgres" / "haproxy-agent.cfg").read_text()
HOST = "one.example"
#: At which agents and controllers ask for a sign of life.
KEEPALIVE_SECONDS = 30

with_haproxy = pytest.mark.skipif(
    shutil.which("haproxy") is None or shutil.which("openssl") is None,
    reason="needs the programs haproxy and openssl",
)


def found(pattern: str, text: str) -> list[str]:
    return re.findall(pattern, text, re.MULTILINE)


def test_both_ends_fit_each_other_and_the_programs() -> None:
    [port] = found(r"^    bind :(\d+) ssl .* verify required$", CONTROLLERS)
    assert set(found(r"^    server \w+ [\w.]+:(\d+) ", AGENT)) == {port}
    assert DEFAULT_LISTEN in found(r"^    server \w+ (\S+)$", CONTROLLERS)
    assert DEFAULT_LISTEN in found(r"^    bind (\S+)$", AGENT)
    assert all(address.startswith("127.0.0.1:") for address in found(r"^    bind (\S+)$", AGENT))
    named = found(r"--controller (\S+)", AGENT)
    assert named == found(r"^    bind (\S+)$", AGENT)
    for text in (CONTROLLERS, AGENT):
        hours = found(r"^    timeout (?:client|server) (\d+)h$", text)
        assert len(hours) == 2
        assert all(int(each) * 3600 > KEEPALIVE_SECONDS for each in hours)


def certify(folder: Path) -> None:
    """One certificate for each end, which is what the other end trusts."""
    for name, authority in (("controller", "controllers-ca"), ("agent", "agents-ca")):
        key, certificate = folder / f"{name}.key", folder / f"{authority}.pem"
        words = (
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        )
        names = ("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}")
        files = ("-keyout", str(key), "-out", str(certificate))
        subprocess.run(["openssl", *words, *names, *files], check=True, capture_output=True)
        (folder / f"{name}.pem").write_text(certificate.read_text() + key.read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certify(tmp_path)
    for name, text in (("haproxy.cfg", CONTROLLERS), ("haproxy-agent.cfg", AGENT)):
        (tmp_path / name).write_text(text.replace("/etc/quotafleet/tls", str(tmp_path)))
    return tmp_path


@with_haproxy
@pytest.mark.parametrize("name", ["haproxy.cfg", "haproxy-agent.cfg"])
def test_haproxy_finds_nothing_wrong(folder: Path, name: str) -> None:
    checked = subprocess.run(
        ["haproxy", "-c", "-f", str(folder / name)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "[WARNING]" not in checked.stderr


@pytest.fixture
def proxies(folder: Path) -> Iterator[tuple[str, str]]:
    """Both run; where the controller has to listen, and where the agent dials."""
    controller, between, agent = (free_port() for _ in range(3))
    ports = {":7443": f"127.0.0.1:{between}", "7400": str(controller), "7410": str(free_port())}
    _rewrite(folder / "haproxy.cfg", ports)
    ports = {f"{HOST}:7443": f"127.0.0.1:{between}", "two.example:7443": f"127.0.0.1:{free_port()}"}
    _rewrite(folder / "haproxy-agent.cfg", {**ports, "7400": str(agent), "7410": str(free_port())})
    running = [
        subprocess.Popen(["haproxy", "-db", "-f", str(folder / name)], stderr=subprocess.DEVNULL)
        for name in ("haproxy.cfg", "haproxy-agent.cfg")
    ]
    try:
        yield f"127.0.0.1:{controller}", f"127.0.0.1:{agent}"
    finally:
        for process in running:
            process.kill()
            process.wait()


def _rewrite(file: Path, words: dict[str, str]) -> None:
    text = file.read_text()
    for old, new in words.items():
        text = text.replace(old, new)
    file.write_text(text)


@with_haproxy
async def test_an_agent_reaches_its_controller_through_both(proxies: tuple[str, str], tmp_path: Path) -> None:
    listen, dialled = proxies
    async with open_controller(tmp_path, listen=listen) as served, AsyncExitStack() as stack:
        fleet = Fleet(tmp_path, served, stack)
        await fleet.quota(target=10)
        agent = await fleet.agent("a", connect=False)
        agent.connect(dialled)
        await agent.linked()
        assert await agent.spend("q", 4) == 4
        assert (await fleet.count()).count == 4
        await fleet.set_target(7)
        assert await agent.spend("q") == 3
