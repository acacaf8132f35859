"""What a store says of itself: whether it is possible, and whether this ledger should know better."""

from __future__ import annotations

from quota_server.errors import LedgerRefusal, field_invalid
from quota_server.ledger.book import Book
from quota_server.ledger.model import AgentKey, AllocationKey, Epoch, Mark
from quotafleet.link.messages import MAX_UNITS, FinalStanding, Hello, Report, Standing

#: Each recovery that begins while a stream is up may reach it with an update before it says hello again for a mark.
MAX_GENERATIONS_AHEAD = 100


def refuse_standings(message: str, standings: tuple[Standing, ...]) -> LedgerRefusal | None:
    """A store that says it is past its own limit is broken; nothing it says is taken (S1).

    `message` is the field of the envelope that brings them: "hello" or "report".
    """
    for index, standing in enumerate(standings):
        path = f"{message}.standings[{index}]"
        if standing.totals.count < 0 or standing.held < 0:
            return field_invalid(f"{path}.totals", "more was released than consumed")
        if standing.used > standing.limit:
            return field_invalid(f"{path}.limit", "count + held is above the limit")
        if not 0 <= standing.totals.overridden <= MAX_UNITS:
            return field_invalid(f"{path}.totals", "more is overridden than there can be")
    return None


def refuse_generations(hello: Hello, mark: Mark) -> LedgerRefusal | None:
    """A store is at most a few recoveries past its mark, which nobody can forge: a revision is only what it says.

    A database that was put back begins its next generation above what a store has met, and no generation ends.
    """
    for index, standing in enumerate(hello.standings):
        if standing.revision.generation > mark.generation + MAX_GENERATIONS_AHEAD:
            return field_invalid(
                f"hello.standings[{index}].revision.generation",
                f"must be at most {MAX_GENERATIONS_AHEAD} above the generation of the mark",
            )
    return None


def refuse_finals(finals: tuple[FinalStanding, ...]) -> LedgerRefusal | None:
    """Final totals become charges as they are: they have to be possible."""
    for index, final in enumerate(finals):
        for totals in (final.totals, final.marked):
            if not (0 <= totals.count <= MAX_UNITS and 0 <= totals.overridden <= MAX_UNITS):
                return field_invalid(
                    f"fence_ack.standings[{index}].totals", "more is counted than there can be"
                )
    return None


def is_put_back(book: Book, epoch: Epoch, hello: Hello, mark: Mark) -> bool:
    """Whether a store is ahead of the ledger in a way that only a ledger put back to an older state explains.

    If the store has met the ledger's generation without the ledger having met the store in it, the ledger was put back
    more than once: that generation was begun before, and its revisions may have been given out already.
    """
    generation = book.meta.generation
    unmet = epoch.adopted_generation < generation
    if met_generation(hello, mark) > generation or (unmet and mark.generation == generation):
        return True
    if book.meta.recovering and unmet:
        return False  # its first hello since: being ahead is no news
    ahead = mark > max(epoch.shown, epoch.offered)
    return ahead or any(_is_ahead(book, epoch.key, standing) for standing in hello.standings)


def report_is_ahead(book: Book, epoch: Epoch, report: Report, mark: Mark | None) -> bool:
    """Whether a report knows what this ledger does not: it was put back while the stream stood.

    The agent has to say hello, which shows the rest of it. `mark` is the decoded one that the report carries.
    """
    if mark is not None and mark > max(epoch.shown, epoch.offered):
        return True
    in_time = (standing for standing in report.standings if not _is_late(book, epoch.key, standing))
    return any(_is_ahead(book, epoch.key, standing) for standing in in_time)


def met_generation(hello: Hello, mark: Mark) -> int:
    """The newest generation of a ledger that a store has met."""
    return max((mark.generation, *(standing.revision.generation for standing in hello.standings)))


def _is_late(book: Book, agent: AgentKey, standing: Standing) -> bool:
    """Whether a newer statement was taken: the limit may have fallen since, within the same revision."""
    allocation = book.allocations.get(AllocationKey(standing.quota_uid, *agent))
    return allocation is not None and standing.sequence < allocation.sequence


def _is_ahead(book: Book, agent: AgentKey, standing: Standing) -> bool:
    allocation = book.allocations.get(AllocationKey(standing.quota_uid, *agent))
    if standing.quota_uid not in book.quotas:
        return False
    if allocation is None:
        # Of an older generation: a recovery was finished without it; what it spent is overage.
        return standing.revision.generation >= book.meta.generation
    if allocation.settled:
        return False
    return standing.revision > allocation.revision or (
        standing.revision == allocation.revision and standing.limit > allocation.exposure
    )
