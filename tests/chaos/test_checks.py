"""The checkers must be able to fail: each history here has one thing that is broken, and is caught."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from quotafleet.v1 import quota_service_pb2 as quotas
from tests.chaos import agreement, bounds, images
from tests.chaos.agreement import Ended
from tests.chaos.bounds import Allowance, Bounds
from tests.chaos.history import Answer, Ask, History, Verb
from tests.chaos.images import Image, Numbers, Paid, Row, State
from tests.chaos.quiet import is_remembered
from tests.chaos.verdict import Violation

STORE, UID, QUOTA = "a0-1", "uid-1", "q"


def asked(history: History, request_id: str, amount: int = 5, **more: object) -> None:
    """Send a request once."""
    history.ask(STORE, request_id, Ask(QUOTA, amount, **more))  # type: ignore[arg-type]
    history.sent(STORE, request_id)


def grant(history: History, request_id: str, amount: int = 5, *, held: bool = False, by: str = "") -> None:
    """Send a request once and read that it was granted."""
    asked(history, request_id, amount, hold=held, override_id=by)
    history.granted(STORE, request_id, Answer(UID, amount, held, by))


def honest() -> tuple[History, Image]:
    """What a sound store holds after one of everything."""
    history = History()
    grant(history, "kept", 5)
    grant(history, "held", 3, held=True)
    grant(history, "committed", 2, held=True)
    history.end_asked(STORE, "committed", Verb.COMMIT)
    history.end_told(STORE, "committed", Verb.COMMIT, UID)
    grant(history, "released", 7)
    history.end_asked(STORE, "released", Verb.RELEASE)
    history.end_told(STORE, "released", Verb.RELEASE, UID)
    history.overrides["o1"] = 4
    grant(history, "paid", 4, by="o1")
    asked(history, "no answer", 6)
    asked(history, "refused", 9)
    history.refused(STORE, "refused", "QUOTA_REACHED")
    rows = (
        Row(UID, "kept", 5, State.COUNTED),
        Row(UID, "held", 3, State.HELD),
        Row(UID, "committed", 2, State.COUNTED),
        Row(UID, "released", 7, State.RELEASED),
        Row(UID, "paid", 4, State.COUNTED, "o1"),
        Row(UID, "no answer", 6, State.COUNTED),
    )
    numbers = Numbers(limit=20, count=13, held=3, overridden=4)
    return history, Image({UID: numbers}, rows, (Paid("o1", 4, 4, "USED"),))


def rewritten(image: Image, which: str, /, **changes: object) -> Image:
    """The image with one row changed, and its totals made to agree."""
    rows = tuple(
        row._replace(**changes) if row.request_id == which else row  # type: ignore[arg-type]
        for row in image.rows
    )
    return summed(dataclasses.replace(image, rows=rows))


def summed(image: Image) -> Image:
    """The image with totals that agree with its rows."""

    def units(state: State, *, paid: bool) -> int:
        return sum(r.granted for r in image.rows if r.state is state and bool(r.override_id) is paid)

    numbers = Numbers(
        limit=100,
        count=units(State.COUNTED, paid=False),
        held=units(State.HELD, paid=False),
        overridden=units(State.COUNTED, paid=True),
    )
    return dataclasses.replace(image, quotas={UID: numbers})


def without(image: Image, request_id: str) -> Image:
    return summed(dataclasses.replace(image, rows=tuple(r for r in image.rows if r.request_id != request_id)))


def past_its_limit(image: Image) -> Image:
    return dataclasses.replace(image, quotas={UID: dataclasses.replace(image.quotas[UID], limit=15)})


def test_a_sound_store_passes() -> None:
    """Otherwise every test below would prove nothing."""
    history, image = honest()
    images.audit(image, history, STORE)


@pytest.mark.parametrize(
    ("guarantee", "broken"),
    [
        ("S1", past_its_limit),
        ("S1", lambda image: dataclasses.replace(image, overrides=(Paid("o1", 4, 5, "USED"),))),
        ("S4", lambda image: without(image, "kept")),
        ("S4", lambda image: without(image, "held")),
        ("S4", lambda image: without(image, "paid")),
        ("S4", lambda image: rewritten(image, "kept", granted=4)),
        ("S4", lambda image: rewritten(image, "kept", state=State.RELEASED)),
        ("S4", lambda image: rewritten(image, "held", state=State.CANCELLED)),
        ("S4", lambda image: rewritten(image, "held", state=State.COUNTED)),
        ("S4", lambda image: rewritten(image, "committed", state=State.EXPIRED)),
        ("S4", lambda image: rewritten(image, "released", state=State.COUNTED)),
        ("S4", lambda image: rewritten(image, "paid", override_id=None)),
        ("S4", lambda image: rewritten(image, "no answer", granted=7)),
        ("S4", lambda image: rewritten(image, "no answer", request_id="never asked for")),
        ("S4", lambda image: rewritten(image, "no answer", request_id="refused")),
        ("S4", lambda image: dataclasses.replace(image, rows=(*image.rows, image.rows[3]))),
        (
            "S4",
            lambda image: dataclasses.replace(
                image, quotas={UID: dataclasses.replace(image.quotas[UID], count=12)}
            ),
        ),
        ("S6", lambda image: dataclasses.replace(image, fenced=True)),
        (
            "S6",
            lambda image: dataclasses.replace(
                rewritten(image, "held", state=State.CANCELLED),
                fenced=True,
                overrides=(Paid("o2", 1, 0, "APPROVED"),),
            ),
        ),
    ],
)
def test_a_store_on_disk_that_lies_is_caught(guarantee: str, broken: Callable[[Image], Image]) -> None:
    """One row, total or flag is not what clients were told."""
    history, image = honest()
    with pytest.raises(Violation) as caught:
        images.audit(broken(image), history, STORE)
    assert caught.value.guarantee == guarantee


@pytest.mark.parametrize(
    ("guarantee", "answer"),
    [
        ("S4", Answer(UID, 6, held=False)),
        ("S4", Answer(UID, 4, held=False)),
        ("S4", Answer(UID, 0, held=False)),
        ("S1", Answer(UID, 5, held=False, override_id="never approved")),
    ],
)
def test_a_wrong_first_answer_is_caught(guarantee: str, answer: Answer) -> None:
    """More or less than was asked for, or paid by what nobody approved."""
    history = History()
    asked(history, "r", 5)
    with pytest.raises(Violation) as caught:
        history.granted(STORE, "r", answer)
    assert caught.value.guarantee == guarantee


def test_another_answer_to_a_repeat_is_caught() -> None:
    """The same request gets the same answer."""
    history = History()
    asked(history, "r", 5, up_to=True)
    history.granted(STORE, "r", Answer(UID, 5, held=False))
    with pytest.raises(Violation, match="S4"):
        history.granted(STORE, "r", Answer(UID, 4, held=False))


def test_a_refused_repeat_is_caught() -> None:
    """What counts is answered again."""
    history = History()
    grant(history, "r")
    (told,) = history.told(STORE)
    with pytest.raises(Violation, match="S4"):
        history.repeat_refused(STORE, told, "QUOTA_REACHED")


def test_an_override_that_pays_twice_is_caught() -> None:
    """Each is spent once."""
    history = History()
    history.overrides["o1"] = 4
    grant(history, "first", 4, by="o1")
    with pytest.raises(Violation, match="S1"):
        grant(history, "second", 4, by="o1")


def test_a_fenced_store_that_grants_is_caught() -> None:
    """Nothing is granted to who asked after the fence was told."""
    history = History()
    asked(history, "r", 5, after_fence=True)
    with pytest.raises(Violation, match="S6"):
        history.granted(STORE, "r", Answer(UID, 5, held=False))


def capped(*targets: int, overrides: int = 0) -> tuple[History, Bounds]:
    history = History()
    held_to = Bounds(history)
    held_to.quotas[UID] = Allowance(QUOTA, set(targets), overrides=overrides)
    return history, held_to


def test_one_unit_above_the_cap_is_caught() -> None:
    """And not a unit before."""
    history, held_to = capped(8, 10, overrides=2)
    grant(history, "r", 12)
    held_to.check_cap(UID)
    grant(history, "s", 1)
    with pytest.raises(Violation, match="S2"):
        held_to.check_cap(UID)


def test_what_is_held_or_being_released_is_not_certain() -> None:
    """Only what counts beyond doubt is held against anybody."""
    history, held_to = capped(5)
    grant(history, "r", 5)
    grant(history, "h", 9, held=True)
    held_to.check_cap(UID)
    history.end_asked(STORE, "r", Verb.RELEASE)
    grant(history, "s", 5)
    held_to.check_cap(UID)
    assert history.certain[UID] == 5


def test_a_committed_hold_counts_against_the_cap() -> None:
    """From when its commit was answered."""
    history, held_to = capped(5)
    grant(history, "h", 6, held=True)
    history.end_asked(STORE, "h", Verb.COMMIT)
    held_to.check_cap(UID)
    history.end_told(STORE, "h", Verb.COMMIT, UID)
    with pytest.raises(Violation, match="S2"):
        held_to.check_cap(UID)


def test_a_bound_one_unit_too_low_is_caught() -> None:
    """What was granted before the call began has to be in its answer."""
    history, held_to = capped(100)
    grant(history, "r", 7)
    begun = held_to.begin(UID)
    grant(history, "after the call began", 50)
    held_to.check_bound(begun, 7)
    held_to.check_bound(begun, None)
    with pytest.raises(Violation, match="S7"):
        held_to.check_bound(begun, 6)


def test_what_is_released_during_the_call_may_be_missing_from_its_bound() -> None:
    """The controller may have answered before or after."""
    history, held_to = capped(100)
    grant(history, "r", 7)
    grant(history, "s", 2)
    begun = held_to.begin(UID)
    history.end_asked(STORE, "s", Verb.RELEASE)
    held_to.check_bound(begun, 7)
    with pytest.raises(Violation, match="S7"):
        held_to.check_bound(begun, 6)


def test_what_a_copy_spends_unseen_is_excused_until_it_was_seen() -> None:
    """And what it spent before counts all the time."""
    history, held_to = capped(100)
    grant(history, "before", 7)
    history.hide(STORE)
    grant(history, "unseen", 5)
    held_to.check_bound(held_to.begin(UID), 7)
    with pytest.raises(Violation, match="S7"):
        held_to.check_bound(held_to.begin(UID), 6)
    history.seen(STORE)
    held_to.check_bound(held_to.begin(UID), 12)
    with pytest.raises(Violation, match="S7"):
        held_to.check_bound(held_to.begin(UID), 11)


def test_a_store_that_was_put_back_is_asked_only_for_what_it_told_since() -> None:
    """What it forgot goes on counting, but need not be on its disk."""
    history, image = honest()
    history.put_back(STORE)
    grant(history, "since", 1)
    empty = dataclasses.replace(image, rows=(), quotas={}, overrides=())
    with pytest.raises(Violation, match="since"):
        images.audit(empty, history, STORE)
    since = dataclasses.replace(empty, rows=(Row(UID, "since", 1, State.COUNTED),))
    images.audit(summed(since), history, STORE)
    assert history.certain[UID] == 5 + 2 + 4 + 1


def test_a_total_on_disks_above_the_bound_is_caught() -> None:
    """At a quiet point the disks are the truth."""
    bounds.check_unseen({UID: 7, "recovering": 9}, {UID: 7, "recovering": None})
    with pytest.raises(Violation, match="S7"):
        bounds.check_unseen({UID: 8}, {UID: 7})


LIVE, GONE = ("a0", 1), ("a1", 1)
ROWS = (
    agreement.Row("a0", 1, count=10, held=2, overridden=1, wanted=30, exposure=30),
    agreement.Row("a1", 1, count=4, overridden=3, charge=4, connected=False),
)
TOTALS = agreement.Totals(
    target=40, count=14, held=2, overridden=4, upper_bound=38, escrowed=34, recovering=False
)
OWN = {LIVE: Numbers(limit=30, count=10, held=2, overridden=1)}
ENDED = {GONE: Ended(Numbers(limit=4, count=4, held=0, overridden=3))}


def compare(
    totals: agreement.Totals = TOTALS,
    rows: tuple[agreement.Row, ...] = ROWS,
    live: dict[tuple[str, int], Numbers] = OWN,
    ended: dict[tuple[str, int], Ended] = ENDED,
    copies: dict[tuple[str, int], int] | None = None,
) -> list[str]:
    """The guarantees that are broken."""
    return [guarantee for guarantee, _ in agreement.compare(totals, rows, live, ended, copies or {})]


def row(number: int, **changes: object) -> tuple[agreement.Row, ...]:
    """The rows with one of them changed."""
    return tuple(
        dataclasses.replace(each, **changes) if index == number else each  # type: ignore[arg-type]
        for index, each in enumerate(ROWS)
    )


def test_honest_rows_agree() -> None:
    """Otherwise the next test would prove nothing."""
    assert compare() == []


@pytest.mark.parametrize(
    ("guarantee", "found"),
    [
        ("S5", lambda: compare(rows=row(0, count=9))),
        ("S5", lambda: compare(rows=row(0, held=1))),
        ("S5", lambda: compare(rows=row(0, overridden=0))),
        ("S5", lambda: compare(rows=ROWS[1:])),
        ("S5", lambda: compare(totals=dataclasses.replace(TOTALS, count=13))),
        ("S5", lambda: compare(totals=dataclasses.replace(TOTALS, held=0))),
        ("S5", lambda: compare(totals=dataclasses.replace(TOTALS, escrowed=33))),
        ("S6", lambda: compare(rows=row(1, charge=3))),
        ("S6", lambda: compare(rows=row(1, at_risk=1))),
        ("S6", lambda: compare(copies={LIVE: 1})),
        ("S6", lambda: compare(rows=row(0, charge=1))),
        ("S6", lambda: compare(copies={GONE: 1})),
        ("S2", lambda: compare(totals=dataclasses.replace(TOTALS, target=33))),
        ("L1", lambda: compare(rows=row(0, wanted=31))),
        ("L1", lambda: compare(rows=row(0, exposure=31))),
        ("L1", lambda: compare(rows=row(0, connected=False))),
        ("L3", lambda: compare(totals=dataclasses.replace(TOTALS, recovering=True))),
    ],
)
def test_rows_that_disagree_are_caught(guarantee: str, found: Callable[[], list[str]]) -> None:
    """One number of the controller's is not what the stores say."""
    assert guarantee in found()


def test_a_loose_charge_has_to_be_enough() -> None:
    """Of a store that forgot something it is only known that it may not be too small."""
    loose = {GONE: dataclasses.replace(ENDED[GONE], loose=True)}
    assert (
        compare(ended=loose, rows=row(1, charge=9), totals=dataclasses.replace(TOTALS, count=19, escrowed=39))
        == []
    )
    assert "S6" in compare(ended=loose, rows=row(1, charge=3))


KNOWN: dict[str, Any] = {"count": 31, "held": 5, "overridden": 1, "upper_bound": 36}


@pytest.mark.parametrize(
    ("changed", "remembered"),
    [
        ({}, True),
        ({"held": 3}, True),
        ({"held": 3, "upper_bound": 34}, True),
        ({"held": 3, "upper_bound": 33}, False),
        ({"held": 6}, False),
        ({"upper_bound": 37}, False),
        ({"count": 30}, False),
        ({"overridden": 0}, False),
        ({"recovering": True}, False),
    ],
)
def test_a_restart_loses_nothing_but_holds_that_expire(changed: dict[str, Any], remembered: bool) -> None:
    """They may bring the bound down, by what was held."""
    assert is_remembered(quotas.Count(**KNOWN), quotas.Count(**{**KNOWN, **changed})) is remembered
