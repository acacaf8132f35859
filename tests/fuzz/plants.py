"""Faults to plant: a parser that forgets one check. The fuzzing has to find each, or it proves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final
from unittest.mock import patch


@dataclass(frozen=True)
class Plant:
    """A fault: `where` is replaced by what `by` returns, which gets what stood there."""

    name: str
    where: str
    by: Callable[[Any], Any]
    #: The fuzzing must find it within so many inputs, the seeds among them; the files of the corpus are left out.
    within_inputs: int = 3_000

    def plant(self) -> AbstractContextManager[Any]:
        """Lets the code have it, while the context is open."""
        holder, name = _resolve(self.where)
        return patch.object(holder, name, self.by(getattr(holder, name)))


@contextmanager
def planted(target: str, name: str) -> Iterator[None]:
    """Lets a target's code have the fault of this name. Raises StopIteration if it has none of it."""
    plant = next(each for each in PLANTS[target] if each.name == name)
    with plant.plant():
        yield


def _resolve(where: str) -> tuple[Any, str]:
    """The object that holds what is at `module:attribute.of.attribute`, and the last name."""
    module, _, path = where.partition(":")
    holder: Any = import_module(module)
    *parts, name = path.split(".")
    for part in parts:
        holder = getattr(holder, part)
    return holder, name


def _with(value: Any) -> Callable[[Any], Any]:
    """In place of whatever stood there."""
    return lambda _: value


def _never(*_: Any, **__: Any) -> Iterator[Any]:
    return iter(())


def _as_given(value: Any, *_: Any, **__: Any) -> Any:
    return value


def _nothing(*_: Any) -> None:
    pass


async def _later(*_: Any) -> None:
    pass


def _always(*_: Any) -> bool:
    return True


def _without_last(sound: Callable[..., Any]) -> Callable[..., Any]:
    """Sees all but the last of what it is to see."""
    return lambda items, *rest: sound(list(items)[:-1], *rest)


def _store_next(self: Any) -> Any:
    command = self._waiting.take()
    return [] if command is None else self._store(command)


def _unchecked_totals(message: Any, _: str) -> Any:
    from quotafleet.link.messages import Totals

    return Totals(message.consumed, message.released, message.override_consumed, message.override_released)


def _overlaps(self: Any, other: Any) -> bool:
    return (self.end is None or other.start < self.end) and (other.end is None or self.start < other.end)


def _load(source: Any) -> Any:
    return json.loads(source.whole(2**20, ""))


def _any_text(fields: dict[str, Any], _: Any, *names: str) -> Any:
    return next((fields[name] for name in names if fields.get(name)), "x")


PLANTS: Final[dict[str, tuple[Plant, ...]]] = {
    "taric": (
        Plant("the head is read byte by byte", "rules.taric.parsing:_HEAD_BYTES", _with(1)),
        Plant(
            "text between elements passes", "rules.taric.structure:Skeleton._refuse_text", _with(_as_given)
        ),
        Plant("document types pass", "rules.taric.parsing:Feeder._refuse_doctype", _with(_as_given)),
    ),
    "cases": (
        Plant("periods that touch do not overlap", "rules.periods:Period.overlaps", _with(_overlaps)),
        Plant("no field is malformed", "rules.json_form:problems", _with(_never)),
    ),
    "rules_files": (
        Plant("JSON is read without care", "quota_server.cli.rules_json:_load", _with(_load)),
        Plant("gzip is read without care", "quota_server.cli.rules_files:zlib.error", _with(KeyError)),
    ),
    "from_agent": (
        Plant("amounts have no bound", "quotafleet.link.checks:units", _with(_as_given)),
        Plant("more may be released than consumed", "quotafleet.link.parts:totals", _with(_unchecked_totals)),
        Plant("the last of a list is lost", "quotafleet.link.checks:each", _without_last),
    ),
    "from_controller": (
        Plant("ids may steer a terminal", "quotafleet.link.checks:identifier", _with(_as_given)),
        Plant(
            "times have no bound",
            "quotafleet.link.checks:wall_ms",
            _with(lambda time, _: time.seconds * 1000),
        ),
        Plant(
            "two commands at once", "quota_agent.uplink.protocol:AgentLink._store_next", _with(_store_next)
        ),
    ),
    "ledger": (
        Plant(
            "limits grow beyond the target", "quota_server.ledger.sharing:_ceiling", _with(lambda *_: 10**15)
        ),
    ),
    "controller": (
        Plant("bad fields pass", "quota_server.services.fields:Fields.refuse", _with(_nothing)),
        Plant("a repeat is carried out", "quota_server.ledger.administration:refuse_repeat", _with(_later)),
    ),
    "rules_service": (
        Plant("no field is malformed", "quota_server.services.tariff_convert:problems", _with(_never)),
    ),
    "gate": (Plant("bad fields pass", "quota_agent.local.requests:_refuse", _with(_nothing)),),
    "store": (Plant("rows may hold anything", "quota_agent.store.soundness:_check", _with(_nothing)),),
    "config": (
        Plant("any host may be served", "quota_server.config:is_loopback", _with(_always)),
        Plant("a credential may hold anything", "quota_agent.config:_text", _with(_any_text)),
    ),
    "words": (
        Plant("a forged mark passes", "quota_server.ledger.marks:hmac.compare_digest", _with(_always)),
        Plant("any key passes for a page's", "quota_server.services.paging:_fits", _with(_always)),
    ),
}
