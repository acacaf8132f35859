"""The demo's checks find what they are for, and are silent about a fleet that does what it should."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from examples.demo.checks import (
    Account,
    Broken,
    Guarantee,
    Reading,
    Refusal,
    Sample,
    SiteAccount,
    Watch,
    judge,
    refused_with_room,
    settle,
    spare_units,
)

BOUND, GAP, STEP = 2.5, 1.0, 0.2


def sample(
    at: float = 0.0,
    readings: Mapping[str, Reading] | None = None,
    answered: Mapping[str, int] | None = None,
    upper_bound: int | None = 100,
    allowed: int = 100,
    changes: int = 0,
) -> Sample:
    return Sample(at, answered or {}, readings or {}, at + 0.05, upper_bound, allowed, changes)


def guarantees(broken: Sequence[Broken]) -> set[Guarantee]:
    return {each.guarantee for each in broken}


# --- samples ---------------------------------------------------------------------------------------------------------


def test_an_honest_fleet_breaks_nothing() -> None:
    """Counting up to the limit and the target, with an agent that is down for a while."""
    watch = Watch()
    for count in range(0, 101, 10):
        readings = {"a": Reading(count // 2, 0, 50), "b": Reading(count // 2, 0, 50)}
        if count == 50:
            del readings["b"]
        assert (
            watch.take(sample(readings=readings, answered={"a": count // 2, "b": max(0, count // 2 - 5)}))
            == []
        )
    assert watch.total == 100


def test_overshoot_is_reported() -> None:
    """More than the target and the approved overrides, also if the bound is not known."""
    readings = {"a": Reading(60, 0, 60), "b": Reading(41, 0, 60)}
    broken = Watch().take(sample(readings=readings, upper_bound=None))
    assert guarantees(broken) == {Guarantee.CAP}
    assert "101 units were spent when at most 100" in broken[0].sentence


def test_overshoot_is_reported_of_answers_alone() -> None:
    """What clients were answered counts, whether or not agents can be asked."""
    assert guarantees(Watch().take(sample(answered={"a": 101}, upper_bound=None))) == {Guarantee.CAP}


def test_overshoot_is_reported_of_an_agent_that_has_gone() -> None:
    """What an agent once said stays spent while it is down."""
    watch = Watch()
    assert watch.take(sample(readings={"a": Reading(60, 0, 60)})) == []
    assert guarantees(watch.take(sample(readings={"b": Reading(41, 0, 41)}, upper_bound=None))) == {
        Guarantee.CAP
    }


def test_a_bound_that_is_too_low_is_reported() -> None:
    """The controller's upper bound is below what was spent before it was asked."""
    broken = Watch().take(sample(readings={"a": Reading(60, 0, 60)}, upper_bound=59))
    assert guarantees(broken) == {Guarantee.BOUND}


def test_overridden_units_are_spent_units() -> None:
    """The total has both kinds."""
    broken = Watch().take(sample(readings={"a": Reading(100, 0, 100, overridden=1)}, upper_bound=101))
    assert guarantees(broken) == {Guarantee.CAP}


def test_an_agent_past_its_limit_is_reported() -> None:
    """Holds are under the limit too."""
    broken = Watch().take(sample(readings={"a": Reading(48, 3, 50)}))
    assert guarantees(broken) == {Guarantee.LIMIT}


def test_a_lost_answer_is_reported() -> None:
    """An agent that knows of less than its clients had been answered."""
    broken = Watch().take(sample(readings={"a": Reading(9, 0, 50)}, answered={"a": 10}))
    assert guarantees(broken) == {Guarantee.DURABLE}
    assert "10 units had been answered, and its agent knows of 9" in broken[0].sentence


def test_a_count_that_falls_is_reported() -> None:
    """An agent that came back with less than it had said before."""
    watch = Watch()
    assert watch.take(sample(readings={"a": Reading(10, 0, 50)})) == []
    assert guarantees(watch.take(sample(readings={"a": Reading(9, 0, 50)}))) == {Guarantee.DURABLE}


# --- the account at the end ------------------------------------------------------------------------------------------


def honest() -> Account:
    """Two sites, a target of 4 and an override of 3, all spent."""
    a = SiteAccount({"p1": 1, "p2": 1}, [("p1", 1), ("p2", 1)], Reading(2, 0, 2), (2, 0, 0))
    b = SiteAccount(
        {"p1": 1, "p3": 1, "family": 3}, [("p1", 1), ("p3", 1), ("family", 3)], Reading(2, 0, 2, 3), (2, 0, 3)
    )
    return Account({"a": a, "b": b}, target=4, overrides=3, controller=(4, 0, 3), upper_bound=7)


def with_site(**changes: object) -> Account:
    account = honest()
    return replace(account, sites={**account.sites, "a": replace(account.sites["a"], **changes)})  # type: ignore[arg-type]


def test_an_honest_account_breaks_nothing() -> None:
    """The same participant at two sites counts twice: that is as it should be."""
    assert settle(honest()) == []
    assert honest().total == 7
    assert honest().overshoot == 0


def test_a_lost_entry_is_reported() -> None:
    """Answered as granted, and not in the store."""
    broken = settle(with_site(entries=[("p1", 1)]))
    assert Guarantee.DURABLE in guarantees(broken)
    assert any("a: p2 answered as granted" in each.sentence for each in broken)


@pytest.mark.parametrize(
    "entries", [[("p1", 1), ("p1", 1)], [("p1", 2)]], ids=["two entries", "one of two units"]
)
def test_a_double_count_is_reported(entries: list[tuple[str, int]]) -> None:
    """One participant counts twice at one site."""
    account = with_site(answered={"p1": 1}, entries=entries)
    broken = settle(account)
    assert guarantees(broken) == {Guarantee.ONCE}
    assert "a: p1 counted more than once" in broken[0].sentence


def test_an_entry_that_nobody_was_told_of_is_reported() -> None:
    """Every request was repeated until it was answered."""
    broken = settle(with_site(entries=[("p1", 1), ("p2", 1), ("p9", 1)], agent=Reading(3, 0, 3)))
    assert any("p9 has an entry, but was never answered" in each.sentence for each in broken)


def test_a_count_beside_the_entries_is_reported() -> None:
    """The agent's number is not what its entries come to."""
    broken = settle(with_site(agent=Reading(3, 0, 3), controller=(3, 0, 0)))
    assert Guarantee.ONCE in guarantees(broken)


def test_overshoot_at_the_end_is_reported() -> None:
    """One unit more than the target and the override."""
    account = replace(honest(), target=3)
    assert account.overshoot == 1
    assert guarantees(settle(account)) == {Guarantee.CAP}


def test_a_target_that_was_not_reached_is_reported() -> None:
    """More was asked for, and one unit was never granted: nobody may call that a success."""
    assert guarantees(settle(replace(honest(), target=5))) == {Guarantee.EXACT}


def test_sums_that_differ_are_reported() -> None:
    """In all, and of one agent."""
    assert guarantees(settle(replace(honest(), controller=(4, 1, 3)))) == {Guarantee.SUMS}
    broken = settle(with_site(controller=(1, 0, 0)))
    assert guarantees(broken) == {Guarantee.SUMS}
    assert "a: the controller says count 1" in broken[0].sentence


def test_an_upper_bound_below_the_total_is_reported() -> None:
    """At the end as on the way."""
    assert guarantees(settle(replace(honest(), upper_bound=6))) == {Guarantee.BOUND}


# --- refusals --------------------------------------------------------------------------------------------------------

DRY = Reading(50, 0, 50)
REFUSED = Refusal("a", asked_at=9.0, refused_at=12.0, limit=50, used=50)


def looks(others: Sequence[Reading], own: Reading = DRY) -> list[Sample]:
    """One sample every STEP seconds from 8 s on; `others` are the readings of site b, one after another."""
    return [sample(8 + STEP * i, {"a": own, "b": other}, allowed=200) for i, other in enumerate(others)]


def test_a_stuck_fleet_is_reported() -> None:
    """A site waits in vain while another sits on units all the time."""
    samples = looks([Reading(10, 0, 50)] * 25)
    assert spare_units(REFUSED, samples, BOUND, GAP) == 40
    broken, judged = judge([REFUSED], samples, bound=BOUND, gap=GAP)
    assert judged == 1
    assert guarantees(broken) == {Guarantee.SERVED}
    assert "a was refused after 3.0 s in which connected agents sat on 40 units" in broken[0].sentence


def test_one_unit_is_enough_to_be_stuck() -> None:
    """The last unit of the target is a unit."""
    broken, _ = judge([REFUSED], looks([Reading(49, 0, 50)] * 25), bound=BOUND, gap=GAP)
    assert guarantees(broken) == {Guarantee.SERVED}


def test_a_fleet_that_has_nothing_left_is_in_order() -> None:
    """The target is used up: refusing is right."""
    assert judge([REFUSED], looks([DRY] * 25), bound=BOUND, gap=GAP) == ([], 1)


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([Reading(10, 0, 50)] * 12 + [DRY] * 13, id="was given away while it waited"),
        pytest.param([DRY] * 18 + [Reading(50, 0, 60)] * 7, id="arrived at the last moment"),
        pytest.param([DRY, Reading(50, 0, 51)] * 12 + [DRY], id="passes through"),
        pytest.param([Reading(10 + 3 * i, 0, 100) for i in range(25)], id="its holder was using it"),
        pytest.param([Reading(10, 40, 50)] * 25, id="is in holds"),
        pytest.param([Reading(10, 0, 50, connected=False)] * 25, id="is out of reach"),
        pytest.param(
            [Reading(10, 0, 50)] * 12 + [Reading(10, 0, 50, connected=False)] * 13, id="went out of reach"
        ),
    ],
)
def test_headroom_that_is_not_idle_is_no_fault(others: list[Reading]) -> None:
    """Units that move, or that somebody is using, or that cannot be had, may be there when a site is refused."""
    assert spare_units(REFUSED, looks(others), BOUND, GAP) == 0


def test_what_cannot_be_judged_is_not() -> None:
    """Too short a wait, an interference, a controller that is down, a machine that stood still, a site cut off."""
    idle = [Reading(10, 0, 50)] * 25
    samples = looks(idle)
    assert spare_units(replace(REFUSED, asked_at=10.0), samples, BOUND, GAP) is None
    assert spare_units(REFUSED, [replace(s, changes=int(s.began > 10)) for s in samples], BOUND, GAP) is None
    assert spare_units(REFUSED, [replace(s, upper_bound=None) for s in samples], BOUND, GAP) is None
    assert spare_units(REFUSED, [s for s in samples if not 10 < s.began < 11.2], BOUND, GAP) is None
    assert spare_units(REFUSED, [s for s in samples if s.began < 10.9], BOUND, GAP) is None
    assert spare_units(REFUSED, looks(idle, own=replace(DRY, connected=False)), BOUND, GAP) is None
    assert spare_units(REFUSED, [], BOUND, GAP) is None
    assert judge([replace(REFUSED, asked_at=10.0)], samples, bound=BOUND, gap=GAP) == ([], 0)


def test_a_refusal_that_contradicts_itself_is_reported() -> None:
    """The agent had room by the very numbers that it refused with."""
    assert refused_with_room(REFUSED) is None
    false = replace(REFUSED, used=49)
    assert refused_with_room(false) is not None
    assert guarantees(judge([false], [], bound=BOUND, gap=GAP)[0]) == {Guarantee.SERVED}
