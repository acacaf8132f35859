"""All rules: what each is about, what makes it be asked, and its text.

A rule is a function with its code as name and its text as docstring, marked with `@rule`. Its module says that it is
there; nothing else has to know. `RULES` is complete once `rules.engine` is imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from rules.records import KINDS, Key, Record
from rules.references import Reference
from rules.state import Finding, State


class Profile(Enum):
    """Whose rules are asked: `eu` leaves out those that only the UK has."""

    UK = "uk"
    EU = "eu"


class When(Enum):
    """Which changed records a rule is asked about."""

    #: Those live after the transaction, and records linked to a change.
    LIVE = "live"
    #: Those live before or after it.
    LIVE_OR_DELETED = "live or deleted"
    #: Those live before and after it.
    UPDATED = "updated"
    #: Those live before it and not after it.
    DELETED = "deleted"
    #: All; the rule is about the changes themselves.
    CHANGED = "changed"


#: From the key of a changed record to the keys of the records that it can break, in one state. The record need not be
#: live there: what refers to it refers to a key. What it refers to itself it does only while it is.
Link = Callable[[State, Any], Iterable[Key]]
Check = Callable[[State, Any], Finding | None]


@dataclass(frozen=True, slots=True)
class Trigger:
    """A change of a `kind` record makes a rule be asked about the `to` records that `link` leads to."""

    kind: type[Record]
    to: type[Record]
    link: Link
    only_deletion: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule; `check` says what is wrong with a record in a state, or None."""

    code: str
    text: str
    about: type[Record] | None
    when: When
    triggers: tuple[Trigger, ...]
    only_uk: bool
    check: Check

    @property
    def can_preexist(self) -> bool:
        """Whether it can be asked of the state before, and not only of the change."""
        return self.when in (When.LIVE, When.LIVE_OR_DELETED)


#: Every rule by code; those of one code for several kinds stand together.
RULES: Final[dict[str, list[Rule]]] = {}


def rule(
    *about: type[Record],
    when: When = When.LIVE,
    triggers: Sequence[Trigger] = (),
    only_uk: bool = False,
) -> Callable[[Check], Check]:
    """Marks a function as the rule of its name, about records of these kinds (none: of every kind).

    Of the triggers, each kind gets those that lead to it.
    """

    def mark(check: Any) -> Check:
        for each in about or (None,):
            leading_here = tuple(trigger for trigger in triggers if trigger.to is each)
            _add(Rule(check.__name__, _text_of(check), each, when, leading_here, only_uk, check))
        return check  # type: ignore[no-any-return]

    return mark


def _add(new: Rule) -> None:
    known = RULES.setdefault(new.code, [])
    if any(each.about is new.about for each in known):
        raise ValueError(f"{new.code} is there twice")
    known.append(new)


def _text_of(check: Any) -> str:
    text = inspect.getdoc(check)
    if not text:
        raise ValueError(f"{check.__name__} has no text")
    return " ".join(text.split())


def on(reference: Reference) -> Trigger:
    """A change of the referent makes the rule be asked about what refers to it."""
    return Trigger(reference.to, reference.of, referring(reference))


def on_deletion(reference: Reference) -> Trigger:
    """The deletion of the referent makes the rule be asked about what refers to it."""
    return Trigger(reference.to, reference.of, referring(reference), only_deletion=True)


_links: Final[dict[Reference, Link]] = {}


def referring(reference: Reference) -> Link:
    """The link from a record to those that refer to it; always the same one for a reference."""

    def link(state: State, key: Key) -> Iterable[Key]:
        return state.bucket(reference, key)

    return _links.setdefault(reference, link)


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules of a profile, sorted by what the engine asks for."""

    #: What to ask about a changed record, by whether it was live before and is live after, and by kind.
    own: Mapping[tuple[bool, bool], Mapping[type[Record], tuple[Rule, ...]]]
    #: By kind of the changed record: the link, the kind it leads to, whether only a deletion counts, the rules to ask.
    links: Mapping[type[Record], tuple[tuple[Link, type[Record], bool, tuple[Rule, ...]], ...]]


def plan(profile: Profile) -> Plan:
    """What to ask under a profile."""
    chosen = [each for same in RULES.values() for each in same if profile is Profile.UK or not each.only_uk]

    def about(*whens: When) -> dict[type[Record], tuple[Rule, ...]]:
        return {
            kind: tuple(each for each in chosen if each.when in whens and each.about in (kind, None))
            for kind in KINDS
        }

    links: dict[type[Record], dict[tuple[Link, type[Record], bool], list[Rule]]] = {
        kind: {} for kind in KINDS
    }
    for each in chosen:
        for trigger in each.triggers:
            same_link = (trigger.link, trigger.to, trigger.only_deletion)
            links[trigger.kind].setdefault(same_link, []).append(each)
    live = (When.CHANGED, When.LIVE, When.LIVE_OR_DELETED)
    return Plan(
        {
            (False, False): about(When.CHANGED),
            (False, True): about(*live),
            (True, True): about(*live, When.UPDATED),
            (True, False): about(When.CHANGED, When.DELETED, When.LIVE_OR_DELETED),
        },
        {
            kind: tuple((*link, tuple(rules)) for link, rules in of_kind.items())
            for kind, of_kind in links.items()
        },
    )
