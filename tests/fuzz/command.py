"""The command line of the fuzzing; docs/fuzzing.md tells how to use it."""

from __future__ import annotations

import argparse
import math
import secrets
import sys
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz import campaign, corpus, engine, keeping, targets
from tests.fuzz.plants import PLANTS
from tests.interrupts import interrupt_once

_NO_ENGINE = "fuzzing needs atheris, which has no wheel for this machine: run it on x86-64 Linux"


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 nothing was found, 1 something was, 2 bad usage or no engine, 130 interrupted."""
    options = _options(arguments)
    if options.command in ("run", "one") and not options.input and find_spec("atheris") is None:
        print(_NO_ENGINE, file=sys.stderr)
        return 2
    interrupt_once()
    try:
        done: int = options.act(options)
    except KeyboardInterrupt:
        print("fuzz: interrupted", flush=True)
        return 130
    return done


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    """What was asked for; ends the process with 2 if it makes no sense."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "run" and options.input:
        if not options.target:
            parser.error("--input (INPUT) needs its --target (TARGET)")
        try:
            options.data = Path(options.input).read_bytes()
        except OSError as error:
            parser.error(f"--input (INPUT) has to be a file that can be read: {error}")
    if options.command == "one" and options.plant:
        names = [plant.name for plant in PLANTS[options.target]]
        if options.plant not in names:
            known = ", ".join(map(repr, names))
            parser.error(f"--plant: {options.target} has no {options.plant!r}; it has {known}")
    return options


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: a number of seconds above 0")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: a whole number from 1 on")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Fuzz the parsers.",
        epilog="Exit codes of `run` and `keep`: 0 nothing was found, 1 something was, "
        "2 bad usage or no engine, 130 interrupted.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    names = [*targets.NAMES, ""]
    run = commands.add_parser("run", help="fuzz one target or all")
    run.add_argument("--target", choices=names, default="", help="default: all, one after the other")
    run.add_argument("--seconds", type=_seconds, default=60.0, help="for all targets together")
    run.add_argument("--seed", type=int, default=None, help="default: another one each time; it is printed")
    run.add_argument("--resume", action="store_true", help="begin with what earlier runs have found, too")
    run.add_argument("--input", default="", help="only run this file through the target")
    run.set_defaults(act=_run)
    one = commands.add_parser("one", help="fuzz one target in this process")
    one.add_argument("target", choices=targets.NAMES)
    one.add_argument("--seconds", type=_seconds)
    one.add_argument("--inputs", type=_count)
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--only-seeds", action="store_true", help="leave the files of the corpus out")
    one.add_argument("--resume", action="store_true")
    one.add_argument(
        "--plant", default="", help="with this fault of tests/fuzz/plants.py in the code, to see it found"
    )
    one.set_defaults(act=_one, input="")
    keep = commands.add_parser(
        "keep", help="take what runs have found into the corpus, as far as it is worth it"
    )
    keep.add_argument("--target", choices=names, default="")
    keep.set_defaults(act=_keep)
    return parser


def _chosen(options: argparse.Namespace) -> list[str]:
    return [options.target] if options.target else list(targets.NAMES)


def _run(options: argparse.Namespace) -> int:
    if options.input:
        return _replay(options.target, options.data, options.input)
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    outcomes = campaign.campaign(_chosen(options), options.seconds, seed, resume=options.resume)
    return 1 if any(each.finding for each in outcomes) else 0


def _replay(name: str, data: bytes, file: str) -> int:
    try:
        targets.load(name).check(data)
    except Exception as error:
        print(engine.report(name, data, error), file=sys.stderr)
        return 1
    print(f"fuzz {name}: nothing found in {file}")
    return 0


def _one(options: argparse.Namespace) -> int:
    names = [field.name for field in fields(engine.Run)]
    engine.fuzz(engine.Run(**{name: getattr(options, name) for name in names}))


def _keep(options: argparse.Namespace) -> int:
    for name in _chosen(options):
        target = targets.load(name)
        known = [*target.seeds(), *(path.read_bytes() for path in corpus.kept(name))]
        found = [path.read_bytes() for path in corpus.found(name)]
        chosen = keeping.worth_keeping(target, found, known)
        folder = corpus.KEPT / name
        folder.mkdir(parents=True, exist_ok=True)
        for data in chosen:
            (folder / corpus.name_of(data)).write_bytes(data)
        size = sum(path.stat().st_size for path in corpus.kept(name))
        print(f"fuzz {name}: {len(chosen)} of {len(found)} inputs kept; the corpus has {size:,} bytes now")
    return 0
