"""What the ledger makes of what a store says that cannot be, comes too late, or names what is not here."""

import logging
from dataclasses import replace

import pytest

from quota_server.ledger.events import FenceAckEvent, HelloEvent, Reply, ReportEvent
from quota_server.ledger.marks import MarkForged, Marks
from quota_server.ledger.model import AgentKey, AllocationKey, Assume, Mark, OverridePolicy
from quotafleet.link.messages import (
    MAX_UNITS,
    Fence,
    FenceDone,
    FenceKind,
    FinalStanding,
    OverrideStanding,
    OverrideState,
    ReportAck,
    Revision,
    Totals,
    Welcome,
)
from tests.link_kit import Ledger, Part, Site, memory_ledger


@pytest.fixture
def ledger() -> Ledger:
    return memory_ledger()


async def one_site(ledger: Ledger) -> Site:
    """The only site of a quota of 100, at rest, with 10 spent and reported."""
    await ledger.quota(target=100)
    (site,) = await ledger.sites_of("a")
    site.spend(10)
    await site.report()
    return site


def fields_of(reply: Reply) -> set[str]:
    """The bad fields that a message was refused for."""
    assert reply.refusal is not None
    assert (reply.refusal.reason, reply.messages) == ("FIELD_INVALID", ())
    return set(reply.refusal.fields)


# --- what cannot be --------------------------------------------------------------------------------------------------

IMPOSSIBLE = {
    "more is released than consumed": ({"consumed": 3, "released": 4}, "totals"),
    "less than nothing is held": ({"held": -1}, "totals"),
    "count and held are above the limit": ({"held": 91}, "limit"),
    "overridden is below zero": ({"override_consumed": -1}, "totals"),
    "more is overridden than there can be": ({"override_consumed": MAX_UNITS + 1}, "totals"),
}


@pytest.mark.parametrize(("change", "field"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
async def test_nothing_is_taken_from_a_message_whose_numbers_cannot_be(
    ledger: Ledger, change: dict[str, int], field: str
) -> None:
    site = await one_site(ledger)
    before = await ledger.allocation(site), await ledger.epoch(site)
    site.parts[ledger.quota_uid] = replace(site.part, **change)  # type: ignore[arg-type]
    site.part.sequence += 1
    report = await ledger.send(ReportEvent(site.key, site.dial, site.report_message()))
    hello = await ledger.send(HelloEvent(site.key, site.hello_message()))
    assert fields_of(report) == {f"report.standings[0].{field}"}
    assert fields_of(hello) == {f"hello.standings[0].{field}"}
    assert (await ledger.allocation(site), await ledger.epoch(site)) == before


@pytest.mark.parametrize(
    "totals",
    [Totals(3, 4), Totals(MAX_UNITS + 1), Totals(0, 0, -1), Totals(0, 0, MAX_UNITS + 1)],
    ids=["below zero", "too many", "overridden below zero", "too many overridden"],
)
@pytest.mark.parametrize("which", ["totals", "marked"])
async def test_final_totals_that_cannot_be_become_no_charge(
    ledger: Ledger, totals: Totals, which: str
) -> None:
    site = await one_site(ledger)
    await ledger.enrolments.retire_agent(ledger.call(), "a", Assume.SPENT_LIMIT, confirm=False)
    before = await ledger.allocation(site)
    fence = await site.hello()
    assert fence == Fence(FenceKind.ENDED)
    said = {"totals": Totals(10), "marked": Totals(), which: totals}
    final = FinalStanding(ledger.quota_uid, said["totals"], said["marked"])
    ack = replace(site.fence_ack(FenceKind.ENDED), standings=(final,))
    reply = await ledger.send(FenceAckEvent(site.key, site.dial, ack))
    assert fields_of(reply) == {"fence_ack.standings[0].totals"}
    assert await ledger.allocation(site) == before


@pytest.mark.parametrize("mark", [Mark(), Mark(3, 0)])
def test_a_mark_that_nobody_is_ever_shown_is_forged_whatever_its_mac(mark: Mark) -> None:
    marks, agent = Marks(b"k" * 32), AgentKey("a", 1)
    with pytest.raises(MarkForged):
        marks.decode(agent, marks.encode(agent, mark))


# --- who speaks ------------------------------------------------------------------------------------------------------


async def test_a_hello_of_nobody_who_was_enrolled_is_refused(ledger: Ledger) -> None:
    site = await one_site(ledger)
    for key in (AgentKey("stranger", 1), AgentKey(site.key.agent_uid, site.key.epoch + 1)):
        reply = await ledger.send(HelloEvent(key, Site(ledger, key, "a").hello_message()))
        assert reply.refusal is not None
        assert reply.refusal.reason == "AGENT_UNKNOWN"


async def test_a_report_on_a_stream_that_was_up_when_its_epoch_ended_is_answered_with_the_fence(
    ledger: Ledger,
) -> None:
    site = await one_site(ledger)
    await ledger.enrolments.retire_agent(ledger.call(), "a", Assume.SPENT_LIMIT, confirm=False)
    before = await ledger.allocation(site)
    site.spend(5)
    assert (await site.report()).messages == (Fence(FenceKind.ENDED),)
    assert await ledger.allocation(site) == before, "only final totals replace the charge"


async def test_the_final_word_on_a_stream_that_is_not_the_newest_is_dropped(ledger: Ledger) -> None:
    site = await one_site(ledger)
    await ledger.enrolments.retire_agent(ledger.call(), "a", Assume.SPENT_LIMIT, confirm=False)
    before = await ledger.allocation(site)
    ack = site.fence_ack(FenceKind.ENDED)
    for key, dial in ((site.key, site.dial - 1), (AgentKey("stranger", 1), site.dial)):
        assert (await ledger.send(FenceAckEvent(key, dial, ack))).superseded
    assert await ledger.allocation(site) == before


async def test_totals_below_those_of_an_earlier_dial_are_a_fork_in_a_report_too(ledger: Ledger) -> None:
    """Whatever mark it carries; one that is forged says nothing, so the fence is on the mark last shown."""
    for name, forge in (("a", False), ("b", True)):
        await ledger.quota(name)
        site = await ledger.site(name, quota=name)
        await site.hello()
        await ledger.settle_down(site)
        async with ledger.store.transaction() as transaction:
            key = AllocationKey(ledger.quota_uid, *site.key)
            await transaction.load_allocations([key])
            stored = transaction.book.allocations[key]
            transaction.book.note_fact(replace(stored, totals=Totals(7), dial=site.dial - 1))
        barred = ledger.marks.decode(site.key, site.mark)
        if forge:
            site.mark, barred = b"forged" * 8, (await ledger.epoch(site)).shown
        assert (await site.report()).messages == (Fence(FenceKind.COPY),)
        assert (await ledger.epoch(site)).fenced
        async with ledger.store.transaction() as transaction:
            await transaction.load_epochs([site.key])
            assert barred in transaction.book.fenced_marks[site.key]


# --- what is not here ------------------------------------------------------------------------------------------------


async def test_a_report_of_a_quota_that_the_agent_has_no_part_in_is_acknowledged_and_changes_nothing(
    ledger: Ledger,
) -> None:
    site = await one_site(ledger)
    before = await ledger.get_quota()
    site.parts["elsewhere"] = Part(Revision(0, 5), limit=50, consumed=20, sequence=3)
    (message,) = (await site.report()).messages
    assert isinstance(message, ReportAck)
    assert await ledger.get_quota() == before


async def test_a_store_with_a_quota_that_is_not_here_is_welcome_and_the_log_says_what_it_spent(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    site = await one_site(ledger)
    site.parts["lost"] = Part(Revision(0, 5), limit=50, consumed=20, held=2, sequence=3)
    with caplog.at_level(logging.ERROR):
        assert isinstance(await site.hello(), Welcome)
    (record,) = caplog.records
    assert "quota_uid=lost count=20 held=2 limit=50" in record.getMessage()
    assert not (await ledger.get_quota()).recovering, "a quota that was never here proves no restore"


async def with_a_part_that_nobody_gave(ledger: Ledger, revision: Revision) -> Site:
    """A site that holds a part in the quota which the ledger has no record of; 30 of its 40 are spent."""
    await ledger.quota("other")
    site = await ledger.site("a", quota="other")
    await ledger.quota("q", target=100)
    await site.hello()
    site.parts[ledger.quota_uid] = Part(revision, limit=40, consumed=30, sequence=9)
    return site


async def test_a_part_that_nobody_gave_in_this_generation_proves_a_restore(ledger: Ledger) -> None:
    site = await with_a_part_that_nobody_gave(ledger, Revision(0, 5))
    assert isinstance(await site.hello(), Welcome)
    assert (await ledger.get_quota()).recovering
    assert (await ledger.allocation(site)).totals == Totals(30)


async def test_a_part_that_a_finished_recovery_had_not_heard_of_turns_up_as_overage(ledger: Ledger) -> None:
    """Its revision is of the generation before: nothing recovers anew, and what it spent is not dropped."""
    site = await with_a_part_that_nobody_gave(ledger, Revision(0, 5))
    part = site.parts.pop(ledger.quota_uid)
    await ledger.recovery.begin(ledger.now_ms)
    await site.hello()
    await site.sync()
    await ledger.recovery.finish(ledger.call(), confirm=True)
    other = await ledger.site("b")
    await other.hello()
    await ledger.settle_down(other)
    assert (await ledger.get_quota()).escrowed == 100
    site.parts[ledger.quota_uid] = part
    assert isinstance(await site.hello(), Welcome)
    quota = await ledger.get_quota()
    assert not quota.recovering
    assert (quota.escrowed, quota.sums.overage) == (140, 30)


# --- copies and overrides at the end ---------------------------------------------------------------------------------


async def test_a_copy_is_charged_for_what_it_spent_in_quotas_that_are_here_and_for_nothing_else(
    ledger: Ledger,
) -> None:
    first = await one_site(ledger)
    for _ in range(3):
        await first.report()
    second = first.copy()
    await first.hello()
    await first.report()
    second.parts["elsewhere"] = Part(limit=20, consumed=20)
    second.dial = first.dial
    fence = await second.hello()
    assert (await second.fenced(fence)).messages == (FenceDone(),)
    assert second.parts[ledger.quota_uid].totals == second.parts[ledger.quota_uid].marked
    quota = await ledger.get_quota()
    assert (quota.known_count, quota.sums.overage) == (10, 0)


async def override(ledger: Ledger, amount: int, *, approve: bool) -> str:
    """The id of an override that an operator asked for on behalf of the site, and decided."""
    asked = await ledger.overrides.request(ledger.call(), "q", "a", amount)
    decided = await ledger.overrides.decide(ledger.call(), asked.override.override_id, approve)
    return decided.override.override_id


async def test_an_override_that_the_final_word_of_a_store_does_not_name_is_dead(ledger: Ledger) -> None:
    """It was never delivered: it stops counting; what was denied stays denied, and what is named counts as named."""
    await ledger.quota(target=100, override_policy=OverridePolicy.ASK)
    (site,) = await ledger.sites_of("a")
    spent, lost, denied = (
        await override(ledger, 5, approve=True),
        await override(ledger, 3, approve=True),
        await override(ledger, 2, approve=False),
    )
    await ledger.enrolments.retire_agent(ledger.call(), "a", Assume.SPENT_LIMIT, confirm=False)
    assert (await ledger.get_quota()).sums.overrides == 8
    fence = await site.hello()
    site.part.override_consumed = 4
    site.overrides = (OverrideStanding(spent, OverrideState.USED, 4, ledger.quota_uid, 5),)
    assert (await site.fenced(fence)).messages == (FenceDone(),)
    async with ledger.store.transaction() as transaction:
        await transaction.load_overrides([spent, lost, denied])
        states = {each: transaction.book.overrides[each].state for each in (spent, lost, denied)}
    assert states == {spent: OverrideState.USED, lost: OverrideState.DEAD, denied: OverrideState.DENIED}
    assert (await ledger.get_quota()).sums.overrides == 4


async def test_an_override_that_is_not_here_is_adopted_if_it_was_spent_or_may_be(ledger: Ledger) -> None:
    site = await one_site(ledger)
    site.overrides = (
        OverrideStanding("open", OverrideState.APPROVED, 0, ledger.quota_uid, 6),
        OverrideStanding("dead", OverrideState.DEAD, 0, ledger.quota_uid, 8),
        OverrideStanding("elsewhere", OverrideState.USED, 9, "not-here", 9),
    )
    assert isinstance(await site.hello(), Welcome)
    async with ledger.store.transaction() as transaction:
        await transaction.load_overrides([each.override_id for each in site.overrides])
        (adopted,) = transaction.book.overrides.values()
        assert (adopted.override_id, adopted.state, adopted.amount) == ("open", OverrideState.APPROVED, 6)
    assert (await ledger.get_quota()).sums.overrides == 6


async def test_a_late_word_does_not_open_an_override_again(ledger: Ledger) -> None:
    """A report of before the store closed it comes after the one that says so."""
    await ledger.quota(target=100, override_policy=OverridePolicy.ASK)
    (site,) = await ledger.sites_of("a")
    approved = await override(ledger, 5, approve=True)
    for state, counts in ((OverrideState.APPROVED, 5), (OverrideState.DEAD, 0), (OverrideState.APPROVED, 0)):
        site.overrides = (OverrideStanding(approved, state, 0, ledger.quota_uid, 5),)
        await site.report()
        assert (await ledger.get_quota()).sums.overrides == counts
