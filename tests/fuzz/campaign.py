"""Fuzzes several targets one after the other, each in a process of its own, and says how far it came."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Final

from tests.fuzz import corpus
from tests.fuzz.engine import FOUND, Run
from tests.interrupts import held

_done: Final = re.compile(r"Done ([0-9]+) runs? in ([0-9]+) second").search
_found: Final = re.compile(r"^FOUND target=\S+ input=([0-9]+)", re.MULTILINE).search
_reached: Final = re.compile(r"cov: ([0-9]+) ft: ([0-9]+) corp: ([0-9]+)")
#: Beyond its time, before a process counts as hung: an input may take 30 s.
_PATIENCE_SECONDS: Final = 90


@dataclass(frozen=True)
class Outcome:
    """What came of a target."""

    target: str
    seed: int
    #: How many inputs were run; 0 if it ended before it could say.
    inputs: int
    seconds: float
    #: Branches that were reached, and inputs that reached something new.
    branches: int
    news: int
    #: What the process said if it found something, else "".
    finding: str
    #: Whether it was the target that found it, not the engine that broke down.
    found: bool = False

    def __str__(self) -> str:
        what = "FOUND SOMETHING" if self.finding else "nothing found"
        return (
            f"fuzz {self.target}: {what}, {self.inputs:,} inputs in {self.seconds:.0f} s, seed {self.seed}, "
            f"{self.branches:,} branches, {self.news:,} inputs of interest"
        )


def campaign(names: Sequence[str], seconds: float, seed: int, *, resume: bool = False) -> list[Outcome]:
    """The outcomes of the targets, which share the time evenly; each is printed as it comes."""
    end = time.monotonic() + seconds
    what = names[0] if len(names) == 1 else f"{len(names)} targets"
    print(f"fuzz: {what} for {seconds:g} s, seed {seed}", flush=True)
    outcomes = []
    for number, name in enumerate(names):
        share = max(2.0, (end - time.monotonic()) / (len(names) - number))
        outcome = one(Run(name, seed, share, resume=resume))
        print(outcome, flush=True)
        if outcome.finding:
            print(outcome.finding, flush=True)
        outcomes.append(outcome)
    total, bad = sum(each.inputs for each in outcomes), sum(bool(each.finding) for each in outcomes)
    print(f"fuzz: {total:,} inputs to {len(names)} targets, seed {seed}, {bad} found something", flush=True)
    return outcomes


def one(run: Run) -> Outcome:
    """Fuzzes one target in a process of its own."""
    began = time.monotonic()
    with ExitStack() as ending:
        with held():  # between its start and the promise to end it, an interrupt would leave it behind
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz", "one", run.target, *_arguments(run)],
                cwd=corpus.ROOT,
                env={**os.environ, "PYTHONHASHSEED": "0"},  # one chance less that no seed decides
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
            ending.enter_context(process)
            ending.callback(_end, process, run)
        limit = None if run.seconds is None else run.seconds + _PATIENCE_SECONDS
        said = process.communicate(timeout=limit)[1]
    done, reached, number = _done(said), _reached.findall(said), _found(said)
    branches, _, news = map(int, reached[-1]) if reached else (0, 0, 0)
    return Outcome(
        run.target,
        run.seed,
        int(done[1]) if done else int(number[1]) if number else 0,
        time.monotonic() - began,
        branches,
        news,
        "" if process.returncode == 0 else _finding(process.returncode, said),
        process.returncode == FOUND,
    )


def _end(process: subprocess.Popen[str], run: Run) -> None:
    process.kill()
    process.wait()
    corpus.Workplace(run.target, process.pid).clear(keep_found=not run.plant)


def _arguments(run: Run) -> Iterator[str]:
    """Its fields as options of the command."""
    for field in fields(run):
        value = getattr(run, field.name)
        option = f"--{field.name.replace('_', '-')}"
        if value is True:
            yield option
        elif field.name != "target" and value not in (None, False, ""):
            yield f"{option}={value}"


def _finding(code: int, said: str) -> str:
    """Its report; of a hang or of too much memory, the engine's last words, which name the file of the input."""
    if code == FOUND:
        return said[said.index("FOUND ") :]
    return f"the process ended with {code}: " + "\n".join(said.splitlines()[-40:])
