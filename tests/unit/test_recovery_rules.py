"""After a restore of the controller's database: every rule of section 8 of the design, one test each."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from quota_server.errors import LedgerRefusal
from quota_server.ledger.events import HelloEvent
from quota_server.ledger.model import AgentKey, Assume, OverridePolicy
from quota_server.ledger.policies import Policy
from quotafleet.link.messages import (
    Fence,
    FenceKind,
    OpenRequest,
    OverrideStanding,
    OverrideState,
    Revision,
    StaleHello,
    Welcome,
)
from tests.link_kit import Ledger, Site, open_ledger

APPROVED = OverrideState.APPROVED

Restored = Callable[[Ledger], AbstractAsyncContextManager[Ledger]]


@pytest.fixture
def put_back(tmp_path: Path) -> Restored:
    """Opens the ledger as it was when `tmp_path/backup` was made, with the sites as they are now."""

    @asynccontextmanager
    async def restored(lost: Ledger) -> AsyncIterator[Ledger]:
        async with open_ledger(tmp_path / "backup") as ledger:
            ledger.quota_uid, ledger.now_ms = lost.quota_uid, lost.now_ms
            for key, site in lost.sites.items():
                site.ledger, site.online = ledger, False
                ledger.sites[key] = site
            await ledger.restart()
            yield ledger

    return restored


async def lost_after_growth(tmp_path: Path, *names: str) -> Ledger:
    """A ledger of which a backup was made at target 100; then the target rose to 200 and agents spent up to it."""
    (tmp_path / "live").mkdir()
    async with open_ledger(tmp_path / "live") as ledger:
        await ledger.quota(target=100, override_policy=OverridePolicy.ASK)
        sites = await ledger.sites_of(*names)
    shutil.copytree(tmp_path / "live", tmp_path / "backup")
    async with open_ledger(tmp_path / "live") as live:
        live.quota_uid, live.sites = ledger.quota_uid, ledger.sites
        for site in sites:
            site.ledger = live
            await site.hello()
        await live.set_target(200)
        await live.settle_down(*sites)
        for site in sites:
            site.spend(1_000)
            await site.report()
        return live


async def test_a_hello_that_is_ahead_of_the_ledger_puts_every_quota_in_recovering(
    tmp_path: Path, put_back: Restored
) -> None:
    lost = await lost_after_growth(tmp_path, "a", "b")
    async with put_back(lost) as ledger:
        other = await ledger.quota("other", target=5)
        a, _ = ledger.sites.values()
        welcome = await a.hello()
        assert isinstance(welcome, Welcome)
        assert welcome.generation == 1
        for uid in (lost.quota_uid, other):
            quota = await ledger.get_quota(uid)
            assert quota.recovering
            assert quota.upper_bound is None


async def test_the_first_hello_of_an_epoch_is_adopted_and_no_limit_grows(
    tmp_path: Path, put_back: Restored
) -> None:
    lost = await lost_after_growth(tmp_path, "a", "b")
    async with put_back(lost) as ledger:
        a, b = ledger.sites.values()
        await a.hello()
        allocation = await ledger.allocation(a, lost.quota_uid)
        assert (allocation.exposure, allocation.totals.count) == (100, 100)
        assert allocation.revision.generation == 1
        await b.hello()
        await a.report()
        await b.report()
        quota = await ledger.get_quota(lost.quota_uid)
        assert (quota.escrowed, quota.known_count, quota.target) == (200, 200, 100)
        await ledger.set_target(500)
        await ledger.settle_down(a, b)
        assert (a.part.limit, b.part.limit) == (100, 100)


async def test_a_limit_that_was_given_up_since_the_backup_does_not_come_back(
    tmp_path: Path, put_back: Restored
) -> None:
    """Units moved from b to a after the backup: the ledger remembers b's old limit, and must not send it again."""
    (tmp_path / "live").mkdir()
    async with open_ledger(tmp_path / "live") as ledger:
        await ledger.quota(target=100, policy=Policy.MAX_MIN)
        await ledger.sites_of("a", "b")
    shutil.copytree(tmp_path / "live", tmp_path / "backup")
    async with open_ledger(tmp_path / "live") as live:
        live.quota_uid, live.sites = ledger.quota_uid, ledger.sites
        a, b = live.sites.values()
        a.ledger = b.ledger = live
        await a.hello()
        await b.hello()
        a.part.open_requests = (OpenRequest(100),)
        await live.settle_down(a, b)
        a.part.open_requests = ()
        assert (a.spend(1_000), b.part.limit) == (100, 0)
    async with put_back(live) as ledger:
        await ledger.recovery.begin(ledger.now_ms)
        await b.hello()  # a is away
        await ledger.settle_down(b)
        assert (b.part.limit, b.spend(1_000)) == (0, 0)
        await a.hello()
        await ledger.settle_down(a, b)
        await ledger.recovery.finish(ledger.call(), confirm=True)
        quota = await ledger.get_quota(live.quota_uid)
        assert (quota.known_count, quota.upper_bound) == (100, 100)


async def test_an_allocation_that_a_store_does_not_know_grants_nothing_while_everything_recovers(
    tmp_path: Path, put_back: Restored
) -> None:
    lost = await lost_after_growth(tmp_path, "a")
    async with put_back(lost) as ledger:
        fresh = await ledger.site("fresh", quota="q")
        await ledger.recovery.begin(ledger.now_ms)
        await fresh.hello()
        assert fresh.part.limit == 0


async def test_streams_that_were_up_when_the_restore_was_noticed_have_to_say_hello_again(
    tmp_path: Path, put_back: Restored
) -> None:
    lost = await lost_after_growth(tmp_path, "a", "b")
    async with put_back(lost) as ledger:
        quiet = await ledger.site("quiet")
        await quiet.hello()
        a, _, _ = ledger.sites.values()
        await a.hello()
        assert (await quiet.report()).superseded
        await quiet.hello()
        assert not (await quiet.report()).superseded


async def test_recovery_ends_when_everybody_is_heard_or_settled_and_the_operator_confirms(
    tmp_path: Path, put_back: Restored
) -> None:
    lost = await lost_after_growth(tmp_path, "a", "b")
    async with put_back(lost) as ledger:
        a, _b = ledger.sites.values()
        await ledger.recovery.begin(ledger.now_ms)
        await a.hello()
        await a.report()
        for confirm, reason in ((False, "CONFIRMATION_NEEDED"), (True, "RECOVERY_STATE")):
            with pytest.raises(LedgerRefusal) as refused:
                await ledger.recovery.finish(ledger.call(), confirm)
            assert refused.value.reason == reason
        await ledger.enrolments.settle_agent(ledger.call(), "b", 0, Assume.SPENT_LIMIT, confirm=False)
        recovered, effects = await ledger.recovery.finish(ledger.call(), confirm=True)
        ledger.keep(effects)
        assert recovered == 1
        await ledger.set_target(400)
        await ledger.settle_down(a)
        quota = await ledger.get_quota(lost.quota_uid)
        assert not quota.recovering
        assert a.part.limit > 100
        assert quota.escrowed <= 400


async def test_heard_means_that_a_revision_of_the_new_generation_was_acknowledged(
    tmp_path: Path, put_back: Restored
) -> None:
    lost = await lost_after_growth(tmp_path, "a")
    async with put_back(lost) as ledger:
        (a,) = ledger.sites.values()
        await a.hello()
        assert (await ledger.epoch(a)).heard_generation == 0
        await a.report()
        assert (await ledger.epoch(a)).heard_generation == 1


async def test_a_store_that_was_spent_beyond_a_settlement_after_the_restore_turns_up_as_overage(
    tmp_path: Path, put_back: Restored
) -> None:
    lost = await lost_after_growth(tmp_path, "a", "b")
    async with put_back(lost) as ledger:
        a, b = ledger.sites.values()
        await a.hello()
        await a.report()
        await ledger.enrolments.settle_agent(ledger.call(), "b", 0, Assume.SPENT_LIMIT, confirm=False)
        assert (await ledger.get_quota(lost.quota_uid)).sums.charge == 50  # all that the backup knows of
        fence = await b.hello()
        assert fence == Fence(FenceKind.ENDED)
        await b.fenced(fence)
        quota = await ledger.get_quota(lost.quota_uid)
        assert quota.known_count == 200
        assert quota.sums.overage == 50


async def test_an_override_spent_after_the_backup_is_adopted(tmp_path: Path, put_back: Restored) -> None:
    lost = await lost_after_growth(tmp_path, "a")
    async with put_back(lost) as ledger:
        (a,) = ledger.sites.values()
        a.part.override_consumed = 7
        a.overrides = (OverrideStanding("lost-override", OverrideState.USED, 7, lost.quota_uid, 9),)
        await a.hello()
        quota = await ledger.get_quota(lost.quota_uid)
        assert (quota.sums.overrides, quota.sums.overridden) == (7, 7)


async def test_an_override_that_a_store_holds_counts_whatever_was_decided_after_the_restore(
    tmp_path: Path, put_back: Restored
) -> None:
    """It was asked for before the backup and approved after it; now it is denied, and the store is lost for good."""
    (tmp_path / "live").mkdir()
    async with open_ledger(tmp_path / "live") as live:
        await live.quota(target=100, override_policy=OverridePolicy.ASK)
        (a,) = await live.sites_of("a")
        asked = await live.overrides.request(live.call(), "q", "a", 6)
        shutil.copytree(tmp_path / "live", tmp_path / "backup")
        await live.overrides.decide(live.call(), asked.override.override_id, True)
        await a.hello()
    async with put_back(live) as ledger:
        await ledger.overrides.decide(ledger.call(), asked.override.override_id, False)
        assert (await ledger.get_quota(live.quota_uid)).sums.overrides == 0
        a.overrides = (OverrideStanding(asked.override.override_id, APPROVED, 0, live.quota_uid, 6),)
        await a.hello()
        assert (await ledger.get_quota(live.quota_uid)).sums.overrides == 6
        await ledger.enrolments.settle_agent(ledger.call(), "a", 0, Assume.SPENT_LIMIT, confirm=False)
        quota = await ledger.get_quota(live.quota_uid)
        assert quota.sums.overrides == quota.sums.overridden == 6


async def test_what_a_copy_showed_to_the_lost_ledger_is_charged(tmp_path: Path, put_back: Restored) -> None:
    """The ledger adopts the twin that spent nothing, and has forgotten that it ever heard of the other."""
    (tmp_path / "live").mkdir()
    async with open_ledger(tmp_path / "live") as live:
        await live.quota(target=100)
        (spender,) = await live.sites_of("a")
        shutil.copytree(tmp_path / "live", tmp_path / "backup")
        twin = spender.copy()
        spender.spend(30)
        for _ in range(3):
            await spender.report()
        assert spender.part.marked == spender.part.totals
    async with put_back(live) as ledger:
        twin.ledger = ledger
        await ledger.recovery.begin(ledger.now_ms)
        assert isinstance(await twin.hello(), Welcome)
        twin.spend(10)
        await twin.report()
        fence = await spender.hello()
        while isinstance(fence, StaleHello):
            fence = await spender.hello()
        assert fence == Fence(FenceKind.COPY)
        await spender.fenced(fence)
        quota = await ledger.get_quota(live.quota_uid)
        assert (quota.known_count, quota.sums.overage) == (40, 30)


async def test_epochs_contain_the_generation_so_that_none_is_given_out_twice(
    tmp_path: Path, put_back: Restored
) -> None:
    lost = await lost_after_growth(tmp_path, "a")
    async with put_back(lost) as ledger:
        (a,) = ledger.sites.values()
        await ledger.recovery.begin(ledger.now_ms)
        enrolment = await ledger.enrolments.settle_agent(
            ledger.call(), "a", 0, Assume.SPENT_LIMIT, confirm=False
        )
        assert enrolment.agent.epoch == 1_000_001
        fresh = Site(ledger, AgentKey(a.key.agent_uid, enrolment.agent.epoch), "a")
        assert isinstance(await fresh.hello(), Welcome)


async def test_a_controller_that_restarts_without_a_restore_needs_no_learning_phase(tmp_path: Path) -> None:
    async with open_ledger(tmp_path) as ledger:
        await ledger.quota(target=100)
        a, b = await ledger.sites_of("a", "b")
        a.spend(10)
        await a.report()
    async with open_ledger(tmp_path) as again:
        again.quota_uid, again.sites = ledger.quota_uid, ledger.sites
        await again.restart()
        for site in (a, b):
            site.ledger = again
            assert isinstance(await site.hello(), Welcome)
        quota = await again.get_quota()
        assert (quota.recovering, quota.known_count, quota.escrowed) == (False, 10, 100)
        await again.set_target(200)
        await again.settle_down(a, b)
        assert a.part.limit + b.part.limit == 200


async def test_a_store_cannot_make_up_a_generation(tmp_path: Path) -> None:
    """Generations are of the whole fleet: one that is far above the mark is refused, and changes nothing."""
    async with open_ledger(tmp_path) as ledger:
        await ledger.quota(target=100)
        (a,) = await ledger.sites_of("a")
        dial = (await ledger.epoch(a)).last_dial
        a.part.revision = Revision(101, 1)
        reply = await ledger.send(HelloEvent(a.key, a.hello_message()))
        assert "hello.standings[0].revision.generation" in str(reply.refusal)
        assert (await ledger.epoch(a)).last_dial == dial
        a.part.revision = Revision(100, 1)
        welcome = await a.hello()
        assert isinstance(welcome, Welcome)
        assert welcome.generation == 101


async def test_a_generation_that_was_begun_before_is_not_begun_again(
    tmp_path: Path, put_back: Restored
) -> None:
    """The same backup is put back twice: what was given out under the first recovery is not given out again."""
    lost = await lost_after_growth(tmp_path, "a", "b")
    shutil.copytree(tmp_path / "backup", tmp_path / "kept")
    async with put_back(lost) as ledger:
        a, b = ledger.sites.values()
        await ledger.recovery.begin(ledger.now_ms)
        await a.hello()
        await a.sync()
        met = a.part.revision
        assert met.generation == 1
    shutil.rmtree(tmp_path / "backup")
    shutil.copytree(tmp_path / "kept", tmp_path / "backup")
    async with put_back(ledger) as again:
        assert await again.recovery.begin(again.now_ms) == 1
        await b.hello()
        assert isinstance(await a.hello(), Welcome)
        await a.sync()
        assert a.part.revision.generation == 2
        assert not (await again.epoch(b)).heard_generation, "it is adopted anew in the generation that counts"


async def test_a_fenced_store_is_fenced_again_by_a_ledger_that_forgot_it(
    tmp_path: Path, put_back: Restored
) -> None:
    """Welcomed, it would take the place of the store that it is a copy of."""
    lost = await lost_after_growth(tmp_path, "a", "b")
    async with put_back(lost) as ledger:
        a, _ = ledger.sites.values()
        a.fenced_kind = FenceKind.COPY
        assert await a.hello() == Fence(FenceKind.COPY)
        epoch = await ledger.epoch(a)
        assert (epoch.fenced, epoch.online) == (True, False)
        assert ledger.store is not None
        async with ledger.store.transaction() as transaction:
            assert transaction.book.meta.recovering, "a fenced store, too, shows that the ledger was put back"
