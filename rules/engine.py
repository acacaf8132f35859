"""Judges a transaction: asks every rule that a change can break, about every record that it can break."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from types import ModuleType
from typing import Any, Final

from rules import associations, blocking, changes, definitions, existence, order_numbers, origins
from rules.catalogue import Plan, Profile, Rule
from rules.catalogue import plan as make_plan
from rules.dataset import Dataset
from rules.malformed import malformed
from rules.records import Change, Key, Record, RecordRef
from rules.state import State
from rules.violation import Verdict, Violation

#: Imported for the rules in them.
RULE_MODULES: Final[tuple[ModuleType, ...]] = (
    changes,
    existence,
    order_numbers,
    origins,
    definitions,
    associations,
    blocking,
)

_Name = tuple[type[Record], Key]


@dataclass(slots=True)
class _Subject:
    """A record that rules are asked about, and the changes that are the reason."""

    #: Changes of the record itself, then links from other changed records with the rules they are for.
    own: list[int] = field(default_factory=list)
    links: list[tuple[tuple[Rule, ...], Sequence[int]]] = field(default_factory=list)

    def triggers(self, rule: Rule) -> tuple[int, ...]:
        """The changes that made this rule be asked."""
        linked = (index for rules, indexes in self.links if rule in rules for index in indexes)
        return tuple(sorted({*self.own, *linked}))


def _ignore() -> None:
    pass


def validate(
    dataset: Dataset,
    transaction: Sequence[Change],
    today: date,
    profile: Profile = Profile.UK,
    go_on: Callable[[], None] = _ignore,
) -> Verdict:
    """All violations of a transaction on a data set, which stays as it is; or all that is malformed in it.

    The order of violations is that of the first change that triggered each, then of the rules' codes, then of keys.
    `go_on` is called for every record: what it raises ends a judgement that nobody waits for any more.
    """
    if wrong := malformed(transaction):
        return Verdict(malformed=wrong)
    plan = _plan(profile)
    by_name: dict[_Name, list[Change]] = {}
    subjects: dict[_Name, _Subject] = {}
    for index, change in enumerate(transaction):
        name = (type(change.record), change.record.key)
        by_name.setdefault(name, []).append(change)
        subjects.setdefault(name, _Subject()).own.append(index)
    before = State(dataset, today)
    after = State(dataset.apply(transaction), today, before, by_name)
    for name in by_name:
        go_on()
        _follow_links(plan, before, after, name, subjects)
    violations: list[Violation] = []
    for name, subject in subjects.items():
        go_on()
        last = transaction[subject.own[-1]].record if subject.own else None
        violations += _judge(plan, before, after, name, subject, last)
    violations.sort(key=_order)
    return Verdict(tuple(violations))


@cache
def _plan(profile: Profile) -> Plan:
    return make_plan(profile)


def _follow_links(
    plan: Plan, before: State, after: State, name: _Name, subjects: dict[_Name, _Subject]
) -> None:
    """Adds the records that are linked to a changed one, before or after."""
    kind, key = name
    indexes = subjects[name].own
    deleted = after.is_deleted(kind, key)
    for link, to, only_deletion, rules in plan.links[kind]:
        if only_deletion and not deleted:
            continue
        linked = {*link(before, key), *link(after, key)}
        for each in linked:
            subjects.setdefault((to, each), _Subject()).links.append((rules, indexes))


def _judge(
    plan: Plan, before: State, after: State, name: _Name, subject: _Subject, changed: Record | None
) -> Iterable[Violation]:
    """Asks the rules about one record."""
    kind, key = name
    old, new = before.live(kind, key), after.live(kind, key)
    record: Any = new or old or changed
    asked: Iterable[Rule]
    if subject.own:
        asked = plan.own[old is not None, new is not None][kind]
    elif new is not None:
        asked = {rule for rules, _ in subject.links for rule in rules}
    else:
        return
    for rule in asked:
        finding = rule.check(after, record)
        if finding is not None:
            yield Violation(
                rule.code,
                RecordRef(kind.kind, key),
                f"{rule.text} {finding.found}",
                finding.related,
                max(finding.related_count, len(finding.related)),
                subject.triggers(rule),
                rule.can_preexist and old is not None and rule.check(before, old) is not None,
            )


def _order(violation: Violation) -> tuple[Any, ...]:
    return violation.triggered_by[0], violation.rule, violation.record.kind, violation.record.parts()
