"""After the database was put back to an older state: every quota recovers until all agents are heard (section 8)."""

from __future__ import annotations

from quota_server.errors import LedgerRefusal
from quota_server.ledger.calls import Call, note_change, record, refuse_repeat
from quota_server.ledger.effects import Effects, effects_of
from quota_server.ledger.replacing import replace
from quota_server.ledger.store import LedgerStore


class Recovery:
    """Begins and ends the recovery of the whole database."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    async def begin(self, now_ms: int) -> int:
        """Declares that this database was restored; the new generation. Until it is finished no limit grows."""
        async with self._store.transaction() as transaction:
            transaction.book.begin_recovery(now_ms, "the database was declared restored")
            generation = transaction.book.meta.generation
        return generation

    async def finish(self, call: Call, confirm: bool) -> tuple[int, Effects]:
        """Ends it; the number of quotas that recovered. Raises CONFIRMATION_NEEDED, RECOVERY_STATE."""
        if not confirm:
            raise LedgerRefusal(
                "CONFIRMATION_NEEDED",
                "confirm that every agent, quota and assignment made since the backup has been made again",
            )
        async with self._store.transaction() as transaction:
            await refuse_repeat(transaction, call)
            book = transaction.book
            if not book.meta.recovering:
                raise LedgerRefusal("RECOVERY_STATE", "this database is not recovering")
            unheard = await transaction.count_unheard(book.meta.generation)
            if unheard:
                raise LedgerRefusal(
                    "RECOVERY_STATE",
                    f"{unheard} enrolments are neither heard nor settled: wait for them, or settle them",
                    metadata={"unheard": unheard},
                )
            await transaction.load_recovering_quotas()
            recovered = sorted(uid for uid, quota in book.quotas.items() if quota.recovering)
            for uid in recovered:
                book.decide(replace(book.quotas[uid], recovering=False))
                note_change(book, call, uid, "finish-recovery", {"recovering": True}, {"recovering": False})
            book.end_recovery()
            effects = effects_of(book)
            effects.stale = set(recovered)
            await record(transaction, call, len(recovered))
        return len(recovered), effects
