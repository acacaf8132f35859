"""The README's tour is run as it is written; what README, docs and changelog name is there.

The convention, as the README states it: a block ```sh is run line by line in one shell, and the block ```text below it
is what must be said then, in this order, other lines in between allowed; `...` stands for anything, and runs of spaces
count as one. A line that ends in `&` goes on in the background. If the last promised line begins with `error:`, the
last command fails. Ports are replaced by free ones.
"""

from __future__ import annotations

import ast
import functools
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main

import quota_agent.cli.main
import quota_server.cli.quotactl
import quota_server.cli.server
from quota_server.cli.session import DEFAULT_SERVER, SERVER_VARIABLE
from quota_server.config import DEFAULT_LISTEN
from quotafleet.agent.v1 import gate_service_pb2
from quotafleet.v1 import (
    agent_admin_service_pb2,
    agent_link_service_pb2,
    quota_service_pb2,
    rules_service_pb2,
)
from tests.ports import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
README: Final = ROOT / "README.md"
PAGES: Final = [
    README,
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "deploy" / "README.md",
]
BUF: Final = ROOT / "node_modules" / ".bin" / "buf"

TOUR: Final = ("A tour in five minutes", "Tariff quota data", "Any gRPC client")
CONTROLLER: Final = "127.0.0.1:7400"
AGENT: Final = "127.0.0.1:7401"
#: What asks and changes nothing, or is the same however often it is said: repeated until it says what is promised.
QUESTION: Final = re.compile(
    r"cat |quota-agent (status|entries|override request) |quotactl .*\b(list|count|history)\b"
)
#: Longer than anything takes on a slow machine.
PATIENCE_SECONDS: Final = 60.0
#: Runs what it is given, one NUL-ended command after another, and says how each has ended.
LOOP: Final = r"""
while IFS= read -r -d '' command; do eval "$command" </dev/null; printf '\n%s %d\n' "$MARK" $?; done
"""
MARK: Final = "=====ended====="


@dataclass(frozen=True)
class Block:
    """What is typed, and what must be said then."""

    commands: tuple[str, ...]
    promised: tuple[str, ...]

    @property
    def background(self) -> bool:
        return self.commands[-1].endswith("&")

    @property
    def question(self) -> bool:
        return all(QUESTION.match(f"{command} ") for command in self.commands)


@dataclass
class Shell:
    """One bash for the whole tour; what it and its programs say comes in lines."""

    process: subprocess.Popen[str]
    lines: queue.Queue[str | None] = field(default_factory=queue.Queue)
    #: Everything that was said, for when something goes wrong.
    said: list[str] = field(default_factory=list)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def line(self, deadline: float, what: str) -> str:
        try:
            line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            line = None
        if line is None:
            pytest.fail(f"the README's tour stopped at: {what}\n\n{''.join(self.said[-60:])}", pytrace=False)
        self.said.append(line)
        return " ".join(line.split())

    def run(self, command: str) -> tuple[int, list[str]]:
        """Run to the end; the exit code and what was said meanwhile."""
        assert self.process.stdin is not None
        self.said.append(f"$ {command}\n")
        self.process.stdin.write(f"{command}\0")
        self.process.stdin.flush()
        deadline, found = time.monotonic() + PATIENCE_SECONDS, list[str]()
        while not (line := self.line(deadline, command)).startswith(MARK):
            found.append(line)
        return int(line.removeprefix(MARK)), found


@contextmanager
def open_shell(folder: Path, environment: dict[str, str]) -> Iterator[Shell]:
    """A shell with programs of its own, which end with it."""
    process = subprocess.Popen(
        ["bash", "--norc", "-c", LOOP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment,
        text=True,
        start_new_session=True,
    )
    shell = Shell(process)
    reader = threading.Thread(target=shell.read, name="shell", daemon=True)
    reader.start()
    try:
        yield shell
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its session: the shell and what the tour started
        process.wait()
        reader.join()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def blocks(text: str) -> Iterator[Block]:
    """The tour's blocks, each with the promise below it."""
    sections = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    assert set(TOUR) <= set(sections[1::2])
    for title, section in zip(sections[1::2], sections[2::2], strict=True):
        if title not in TOUR:
            continue
        for commands, promised in re.findall(
            r"^```sh\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", section, re.M | re.S
        ):
            joined = commands.replace("\\\n", " ")
            yield Block(tuple(joined.splitlines()), tuple(promised.splitlines()))


def is_said(promised: str, line: str) -> bool:
    """Whether a line keeps a promise, word by word; `...` is any words, or none."""
    words = (r"(?:\S+ )*" if word == "..." else re.escape(word) + " " for word in promised.split())
    return re.fullmatch("".join(words), f"{line} ") is not None


def missing(promised: Iterable[str], said: list[str]) -> list[str]:
    """The promised lines from the first one on that was not said in its turn."""
    left, position = list(promised), 0
    while left:
        places = [place for place in range(position, len(said)) if is_said(left[0], said[place])]
        if not places:
            return left
        position = places[0] + 1
        del left[0]
    return []


def play(shell: Shell, block: Block) -> None:
    """Run a block; fails if it does not keep its promise."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        ran = [shell.run(command) for command in block.commands]
        said = [line for _, lines in ran for line in lines]
        while block.background and missing(block.promised, said):
            said.append(
                shell.line(deadline, f"{block.commands[-1]} did not say {missing(block.promised, said)}")
            )
        left = missing(block.promised, said)
        if not (left and block.question and time.monotonic() < deadline):
            break
    if left:
        pytest.fail(f"{block.commands} did not say {left}, but\n" + "\n".join(said), pytrace=False)
    fails = bool(block.promised) and block.promised[-1].startswith("error:")
    assert [code for code, _ in ran] == [0] * (len(ran) - 1) + [int(fails)], block.commands


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like the repository's, as far as the tour goes."""
    if not BUF.exists():
        assert shutil.which("npm"), "the README's generic client comes with npm: apt-get install nodejs npm"
        subprocess.run(["make", "node_modules/.installed"], cwd=ROOT, check=True)
    for name in (".venv", "node_modules", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.timeout(400)
def test_the_tour_runs_as_it_is_written_and_says_what_it_promises(folder: Path) -> None:
    text = README.read_text()
    controller = f"127.0.0.1:{free_port()}"
    text = text.replace(CONTROLLER, controller).replace(AGENT, f"127.0.0.1:{free_port()}")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("QUOTA", "COLUMNS"))}
    environment = {**kept, SERVER_VARIABLE: controller, "MARK": MARK, "COLUMNS": "240", "LC_ALL": "C.UTF-8"}
    tour = list(blocks(text))
    assert len(tour) > 20
    with open_shell(folder, environment) as shell:
        for block in tour:
            play(shell, block)


def test_the_tours_addresses_are_the_defaults() -> None:
    """So that `quotactl` finds the tour's controller without being told."""
    assert DEFAULT_SERVER == DEFAULT_LISTEN == CONTROLLER


# --- what pages name ------------------------------------------------------------------------------------------------


def named(pattern: str) -> list[tuple[str, str]]:
    """(page, what was found) of everything in the pages that matches; the pattern has one group."""
    return [
        (page.name, found) for page in PAGES for found in re.findall(pattern, page.read_text(), re.MULTILINE)
    ]


def test_every_make_target_that_is_named_exists() -> None:
    rules = set(re.findall(r"^([a-z.]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = named(r"(?:^|`)make ([a-z.]+)")
    assert {"demo", "test", "check"} <= {target for _, target in found}
    assert [each for each in found if each[1] not in rules] == []


def test_every_link_leads_somewhere() -> None:
    found = [
        (page.name, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        if not target.startswith(("http://", "https://")) and not (page.parent / target).is_file()
    ]
    assert found == []


def test_every_page_is_linked_from_the_readme_and_stays_short() -> None:
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert f"](docs/{page.name})" in README.read_text()
        assert len(page.read_text().splitlines()) < 200, page.name


def test_every_file_that_is_named_exists() -> None:
    """Files by path, and folders, which end in a slash."""
    found = named(r"`((?:[a-z_]+/)+(?:[\w-]+\.\w+)?)[`:]")
    tops = {path.name for path in ROOT.iterdir()} - {"data"}
    ours = [(page, path) for page, path in found if path.split("/")[0] in tops]
    assert len(ours) > 20
    assert [(page, path) for page, path in ours if not (ROOT / path).exists()] == []


@functools.cache
def definitions(path: Path) -> frozenset[str]:
    """What a module defines: functions, classes and constants; methods as Class.method."""

    def of(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    yield prefix + node.name
                case ast.ClassDef():
                    yield prefix + node.name
                    yield from of(node.body, f"{prefix}{node.name}.")
                case ast.Assign():
                    yield from (prefix + each.id for each in node.targets if isinstance(each, ast.Name))
                case ast.AnnAssign(target=ast.Name(id=name)):
                    yield prefix + name

    return frozenset(of(ast.parse(path.read_text()).body, ""))


def test_every_function_that_is_named_exists() -> None:
    found = named(r"`([\w/]+\.py:[\w.]+)`")
    assert len(found) > 40
    wrong = []
    for page, reference in found:
        path, _, name = reference.partition(":")
        if not (ROOT / path).is_file() or name not in definitions(ROOT / path):
            wrong.append((page, reference))
    assert wrong == []


def test_every_test_that_is_named_exists() -> None:
    found = named(r"`(test_\w+)`")
    assert len(found) > 20
    tests = set().union(*(definitions(path) for path in (ROOT / "tests").rglob("test_*.py")))
    assert [each for each in found if each[1] not in tests] == []


def test_every_command_and_option_that_is_named_exists() -> None:
    """In fenced blocks and in running text; words that are no commands are taken for arguments."""
    programs: dict[str, Any] = {
        "quotactl": typer.main.get_command(quota_server.cli.quotactl.app),
        "quota-server": typer.main.get_command(quota_server.cli.server.app),
        "quota-agent": typer.main.get_command(quota_agent.cli.main.app),
    }
    found = named(r"(?:^|[`(] ?)((?:quotactl|quota-server|quota-agent) (?!ready)[^`\n]+)")
    assert len(found) > 20
    wrong = []
    for page, line in found:
        program, *words = line.split()
        command, options = programs[program], {"--help"}
        if not words[0].startswith("-") and words[0] not in command.commands:
            wrong.append((page, line, words[0]))
        for word in words:
            command = getattr(command, "commands", {}).get(word, command)
            options |= {name for each in command.params for name in each.opts}
            if word.startswith("--") and word.partition("=")[0] not in options:
                wrong.append((page, line, word))
    assert wrong == []


def test_every_rpc_that_is_named_exists() -> None:
    modules = (
        quota_service_pb2,
        agent_admin_service_pb2,
        agent_link_service_pb2,
        rules_service_pb2,
        gate_service_pb2,
    )
    services = {
        each.full_name: each for module in modules for each in module.DESCRIPTOR.services_by_name.values()
    }
    found = named(r"(quotafleet(?:\.\w+)+Service/\w+)")
    assert found
    for page, path in found:
        service, _, method = path.partition("/")
        assert service in services, (page, path)
        assert method in services[service].methods_by_name, (page, path)
