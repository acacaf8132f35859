"""All rules of a transaction, by scanning everything: no index, no engine, only the text of the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from rules import records as r
from tests.brute.change_rules import DELETION_RULES, LEFT_TO_DELETION, UPDATE_RULES, referents
from tests.brute.state_rules import ON10, STATE_RULES, StateRule, leaves_measures_uncovered
from tests.brute.world import Ref, State, applied, find, ref


@dataclass(frozen=True)
class Found:
    """A violation; `triggered_by` are the positions of the changes for which its rule was asked."""

    rule: str
    kind: str
    key: r.Key
    preexisting: bool
    triggered_by: tuple[int, ...]


@dataclass
class Judging:
    """A transaction, the state before it and the state after it."""

    before: State
    changes: Sequence[r.Change]
    today: date
    uk: bool = True
    after: State = field(init=False)
    found: list[Found] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.after = applied(self.before, self.changes)
        self.changed = {ref(each.record) for each in self.changes}
        self.deleted = set(self.before) - set(self.after)

    def say(self, code: str, name: Ref, triggers: set[Ref], preexisting: bool = False) -> None:
        positions = (index for index, each in enumerate(self.changes) if ref(each.record) in triggers)
        self.found.append(Found(code, *name, preexisting, tuple(positions)))

    def all_rules(self) -> list[Found]:
        self.keys()
        self.references()
        for rule in STATE_RULES:
            if self.uk or not rule.only_uk:
                self.state_rule(rule)
        self.deletions()
        self.updates()
        return self.found

    def keys(self) -> None:
        """UniqueIdentifyingFields, QA1, UpdateValidity."""
        for name in self.changed:
            types = [each.update_type for each in self.changes if ref(each.record) == name]
            if r.UpdateType.CREATE in types and name in self.before:
                association = name[0] == r.QuotaAssociation.kind
                self.say("QA1" if association else "UniqueIdentifyingFields", name, {name})
            of_nothing = name not in self.before and set(types) != {r.UpdateType.CREATE}
            if of_nothing or len(types) > 1:
                self.say("UpdateValidity", name, {name})

    def references(self) -> None:
        """ReferenceMustExist and the codes that stand for it."""
        for name, record in self.after.items():
            was = referents(self.before[name]) if name in self.before else {}
            left = self.deleted if isinstance(record, LEFT_TO_DELETION) else set()
            for code, now in referents(record).items():
                before = was.get(code, set())
                triggers = (self.changed & {name}) | (self.deleted & (before | now))
                if triggers and now - set(self.after) - left:
                    self.say(code, name, triggers, not before <= set(self.before))

    def state_rule(self, rule: StateRule) -> None:
        for name, record in self.after.items():
            triggers = self.triggers(rule, name) if isinstance(record, rule.about) else set()
            fails = triggers and rule.fails(self.after, record, self.today)
            if fails or (rule.code == "ON10" and triggers and self.left_uncovered(name)):
                self.say(rule.code, name, triggers, self.failed_before(rule, name))

    def triggers(self, rule: StateRule, name: Ref) -> set[Ref]:
        """Itself, if it was changed, and all that were to which it is linked before or after."""
        found = self.changed & {name}
        for state in (self.before, self.after):
            for kind, linked in rule.links.items():
                for other in self.changed:
                    if other[0] == kind.kind and name in state and linked(state, state[name], other[1]):
                        found.add(other)
        return found

    def failed_before(self, rule: StateRule, name: Ref) -> bool:
        return name in self.before and rule.fails(self.before, self.before[name], self.today)

    def left_uncovered(self, name: Ref) -> bool:
        """ON10 of the order number that an origin has left, by moving or by being deleted."""
        was = self.before.get(name)
        return isinstance(was, r.QuotaOrderNumberOrigin) and leaves_measures_uncovered(
            self.after, was.order_number_sid
        )

    def deletions(self) -> None:
        for name in self.deleted:
            record = self.before[name]
            for rule in DELETION_RULES:
                asked = isinstance(record, rule.about) and (self.uk or not rule.only_uk)
                if asked and rule.fails(record, self.after, self.today):
                    self.say(rule.code, name, {name})
            if self.left_uncovered(name):
                self.say("ON10", name, {name}, self.failed_before(ON10, name))

    def updates(self) -> None:
        for kind, key in self.changed:
            if kind == r.QuotaDefinition.kind:
                was, now = find(self.before, r.QuotaDefinition, key), find(self.after, r.QuotaDefinition, key)
                for code, fails in UPDATE_RULES.items():
                    if was is not None and now is not None and fails(was, now, self.after):
                        self.say(code, (kind, key), {(kind, key)})


def judge(before: State, changes: Sequence[r.Change], today: date, *, uk: bool = True) -> list[Found]:
    """Every violation of a well-formed transaction."""
    return Judging(before, changes, today, uk).all_rules()
