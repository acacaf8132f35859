"""The targets by name: a module each, imported only when wanted, so that the engine can watch what it imports."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from tests.fuzz.target import Target

NAMES: Final = (
    "taric",
    "cases",
    "rules_files",
    "from_agent",
    "from_controller",
    "ledger",
    "controller",
    "rules_service",
    "gate",
    "config",
    "words",
    "store",
)


def load(name: str) -> Target:
    """The target of this name. Raises KeyError if there is none."""
    if name not in NAMES:
        raise KeyError(name)
    target = import_module(f"tests.fuzz.targets.{name}").TARGET
    assert isinstance(target, Target)
    return target
