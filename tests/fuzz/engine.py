"""Fuzzes one target in this process: Atheris (libFuzzer) leads, the target's own mutator makes most inputs.

Nothing that the engine should watch may be imported before `fuzz` is called: it instruments what is imported then.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NoReturn

from tests.fuzz import corpus
from tests.fuzz.plants import planted
from tests.fuzz.target import Target

#: The packages whose branches lead the way.
WATCHED: Final = ("rules", "quota_server", "quota_agent", "quotafleet")
_GENERATED: Final = ("quotafleet.v1", "quotafleet.agent")
#: What a process ends with that has found something.
FOUND: Final = 77
#: An input may take so long, and the process so much memory.
_HANG_SECONDS: Final = 30
_MEMORY_MIB: Final = 1_536
#: In so many inputs one is changed by the engine's own mutator, which knows no structure.
_BLIND: Final = 6
#: Characters.
_SHOWN: Final = 2_000


@dataclass(frozen=True)
class Run:
    """How long, from what, and with which chance. With neither seconds nor inputs it goes on without end.

    All chance begins with the seed. But the engine also goes by how long inputs took: no two runs are quite the same.
    """

    target: str
    seed: int = 1
    #: Of the process, its start included.
    seconds: float | None = None
    inputs: int | None = None
    #: Leave the files of the corpus out.
    only_seeds: bool = False
    #: Begin with what earlier runs have found, too.
    resume: bool = False
    #: A fault to plant in the code.
    plant: str = ""


def fuzz(run: Run) -> NoReturn:
    """Fuzzes; the process ends with 0, or with FOUND at the first finding."""
    end = None if run.seconds is None else time.monotonic() + run.seconds
    import atheris  # not to be had everywhere

    with atheris.instrument_imports(include=list(WATCHED), exclude=list(_GENERATED)):
        from tests.fuzz import targets

        target = targets.load(run.target)
    arguments, inputs = _set_up(run, target, end)
    with planted(run.target, run.plant) if run.plant else nullcontext():
        watch = _Watch(target, save=not run.plant)
        atheris.Setup(arguments, watch, custom_mutator=_mutator(atheris, target, inputs))
        atheris.Fuzz()
    raise AssertionError("the engine ends the process")


def _set_up(run: Run, target: Target, end: float | None) -> tuple[list[str], list[bytes]]:
    """The engine's arguments, and the inputs to begin with."""
    files = [] if run.only_seeds else corpus.kept(target.name)
    if run.resume:
        files += corpus.found(target.name)
    inputs = [*target.seeds(), *(path.read_bytes() for path in files)]
    options = [
        f"-seed={run.seed % 2**32 or 1}",
        f"-max_len={target.max_bytes}",
        f"-timeout={_HANG_SECONDS}",
        f"-rss_limit_mb={_MEMORY_MIB}",
        f"-artifact_prefix={corpus.failures(target.name)}/",
        "-reload=0",
        "-len_control=0",
    ]
    if end is not None:
        options.append(f"-max_total_time={max(1, round(end - time.monotonic()))}")
    if run.inputs is not None:
        options.append(f"-runs={run.inputs}")
    folders = corpus.Workplace(target.name, os.getpid()).prepare(inputs)
    return [sys.argv[0], *options, *map(str, folders)], inputs


def _mutator(atheris: Any, target: Target, inputs: Sequence[bytes]) -> Callable[[bytes, int, int], bytes]:
    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        random = Random(seed)
        if random.randrange(_BLIND) == 0:
            return bytes(atheris.Mutate(data, max_bytes))
        new = target.mutate(data, random.choice(inputs), random)
        return new if len(new) <= max_bytes else bytes(atheris.Mutate(data[:max_bytes], max_bytes))

    return mutate


class _Watch:
    """Calls the target, and ends the process with a report at the first finding."""

    def __init__(self, target: Target, *, save: bool) -> None:
        self._target = target
        self._save = save
        self._inputs = 0

    def __call__(self, data: bytes) -> None:
        self._inputs += 1
        try:
            self._target.check(data)
        except Exception as error:
            print(
                report(self._target.name, data, error, self._inputs, save=self._save),
                file=sys.stderr,
                flush=True,
            )
            os._exit(FOUND)


def report(name: str, data: bytes, error: Exception, number: int | None = None, *, save: bool = True) -> str:
    """What was found, with all that is needed to see it again; the input is saved."""
    path = corpus.save_failure(name, data) if save else "not: a fault was planted"
    shown = repr(data) if len(data) <= _SHOWN else f"{data[:_SHOWN]!r}... ({len(data)} bytes)"
    lines = [
        f"FOUND target={name} input={number or '-'}: {type(error).__name__}: {error}"[:_SHOWN],
        "".join(traceback.format_exception(error, limit=-12)).rstrip(),
        f"input (escaped): {shown}",
        f"saved: {path}",
    ]
    if save:
        lines.append(f"replay: make fuzz TARGET={name} INPUT={path}")
    return "\n".join(lines)
