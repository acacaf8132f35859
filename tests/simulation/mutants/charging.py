"""Controllers that charge too much, or do not know what time it is after a restart or a restore."""

from tests.simulation.mutants.mutant import Mutant

_ESCROW = "quota_server.ledger.escrow"

MUTANTS = (
    Mutant(
        "final-never-lowers",
        "the final totals of a store replace its charge only if they are higher",
        ("S6",),
        _ESCROW,
        "charge=totals.count,",
        "charge=max(allocation.charge, allocation.exposure, totals.count),",
    ),
    Mutant(
        "copy-charged-again",
        "a copy is charged as often as it says its last word",
        ("S6",),
        "quota_server.ledger.book",
        """        if (agent, store_id) in self.charged_copies:
            return False
""",
        "",
    ),
    Mutant(
        "copy-overcharged",
        "a copy is charged more than it can have spent",
        ("S6",),
        _ESCROW,
        "copies=allocation.copies + spent,",
        "copies=allocation.copies + spent + 50,",
    ),
    Mutant(
        "restore-not-noticed",
        "a store that is ahead of the ledger is welcomed as if nothing had happened",
        ("S3",),
        "quota_server.ledger.claims",
        "return ahead or any(_is_ahead(book, epoch.key, standing) for standing in hello.standings)",
        "return False",
    ),
    Mutant(
        "learning-phase",
        "a controller that has restarted takes no hello for eight heartbeats",
        ("L3",),
        "quota_server.ledger.link_batch",
        """        async with self._store.transaction() as transaction:
            book = transaction.book
            await _load(transaction, batch)
""",
        """        self._began_ms = getattr(self, "_began_ms", now_ms)
        if now_ms < self._began_ms + 8 * self._heartbeat_ms:
            return BatchResult([Reply(superseded=True) for _ in batch], Effects())
        async with self._store.transaction() as transaction:
            book = transaction.book
            await _load(transaction, batch)
""",
    ),
)
