"""Controllers that forget a rule."""

from tests.simulation.mutants.mutant import Edit, Mutant

_ESCROW = "quota_server.ledger.escrow"
_EVENTS = "quota_server.ledger.link_events"
_SHARING = "quota_server.ledger.sharing"

MUTANTS = (
    Mutant(
        "fund-without-end",
        "limits grow to what is wanted, whatever is left",
        ("S2",),
        _SHARING,
        """limit = min(allocation.wanted, _ceiling(book, allocation))
    if limit > allocation.offered:
        book.decide(offer(allocation, limit, book.meta.generation))


def _ceiling""",
        """limit = allocation.wanted
    if limit > allocation.offered:
        book.decide(offer(allocation, limit, book.meta.generation))


def _ceiling""",
    ),
    Mutant(
        "one-past-the-target",
        "one unit more than the target is shared out",
        ("S2",),
        _SHARING,
        "return allocation.exposure + quota.target - quota.escrowed",
        "return allocation.exposure + quota.target - quota.escrowed + 1",
    ),
    Mutant(
        "target-below-count",
        "a target below the known count is taken",
        ("S2",),
        "quota_server.ledger.administration",
        "if target < quota.target and target < quota.known_count:",
        "if target < quota.target and target < quota.known_count - 1_000_000:",
    ),
    Mutant(
        "copies-are-free",
        "E leaves out what copies were charged",
        ("S2",),
        _ESCROW,
        "charge = allocation.charge + allocation.copies",
        "charge = allocation.charge",
    ),
    Mutant(
        "grow-before-the-acknowledgement",
        "the exposure falls when the smaller limit is sent",
        ("S3",),
        _ESCROW,
        "exposure=max(allocation.exposure, limit),",
        "exposure=limit,",
    ),
    Mutant(
        "exposure-forgotten",
        "a limit is sent that no exposure stands for",
        ("S3",),
        _ESCROW,
        "exposure=max(allocation.exposure, limit),",
        "exposure=allocation.exposure,",
    ),
    Mutant(
        "any-acknowledgement-will-do",
        "an acknowledgement of an older revision lowers the exposure",
        ("S3",),
        _ESCROW,
        "if allocation.settled or standing.revision != allocation.revision:",
        "if allocation.settled:",
    ),
    Mutant(
        "late-statement-raises",
        "a late statement of the newest revision raises the exposure again",
        ("S3",),
        _ESCROW,
        """    if standing.limit > allocation.exposure:
        return allocation  # a late statement of the same revision
""",
        "",
    ),
    Mutant(
        "revision-reused",
        "another limit goes out under the same revision",
        ("S3",),
        _ESCROW,
        "revision=allocation.revision.next(generation),",
        """revision=(
            allocation.revision
            if allocation.revision.generation == generation and allocation.revision.number > 3
            else allocation.revision.next(generation)
        ),""",
    ),
    Mutant(
        "lower-count-trusted",
        "totals that are lower than those known are taken",
        ("S5",),
        _ESCROW,
        """    if allocation.settled or not standing.totals.covers(allocation.totals):
        return allocation
    if standing.sequence < allocation.sequence:
        return allocation
""",
        """    if allocation.settled:
        return allocation
""",
    ),
    Mutant(
        "old-dial-accepted",
        "a late hello takes the agent over",
        ("S5",),
        _EVENTS,
        "if hello.dial <= epoch.last_dial:",
        "if hello.dial < epoch.last_dial - 1:",
    ),
    Mutant(
        "any-stream-owns-the-agent",
        "what is said on an older stream counts, wherever the newest one is",
        ("S5",),
        _EVENTS,
        "return epoch if epoch is not None and epoch.last_dial == dial and epoch.online else None",
        "return epoch if epoch is not None and epoch.online else None",
    ),
    Mutant(
        "epoch-ignored",
        "the store of an ended epoch is welcomed",
        ("L1",),
        _EVENTS,
        """        if epoch.ended:
            return Reply((Fence(FenceKind.ENDED),))
        self._notice_restore""",
        "        self._notice_restore",
        second=Edit(
            _EVENTS,
            """        if epoch.ended:
            return Reply((Fence(FenceKind.ENDED),))
        if self._book.meta.recovering""",
            """        if self._book.meta.recovering""",
        ),
    ),
    Mutant(
        "fenced-store-welcomed",
        "a ledger that was put back welcomes a store that is fenced",
        ("S6",),
        _EVENTS,
        "if hello.fenced is not None:",
        "if hello.fenced is not None and epoch.ended:",
    ),
    Mutant(
        "mark-rotated-early",
        "every report moves the session mark on",
        ("S6",),
        _EVENTS,
        "        if presents_offered:\n",
        "        if report.mark:\n",
    ),
    Mutant(
        "any-mark-welcomed",
        "a mark that was replaced long ago is accepted",
        ("S6",),
        _EVENTS,
        "known = mark in (epoch.shown, epoch.offered)",
        "known = True",
        second=Edit(
            _EVENTS,
            "if self._is_fork(agent, hello):",
            "if self._is_fork(agent, hello) and epoch.ended:",
        ),
    ),
    Mutant(
        "copies-not-charged",
        "what a copy spent is dropped",
        ("S6",),
        _EVENTS,
        "if spent <= 0 or final.quota_uid not in self._book.quotas:",
        "if spent <= 3 or final.quota_uid not in self._book.quotas:",
    ),
    Mutant(
        "lost-ledgers-baseline-believed",
        "a copy is charged above what it showed to a ledger that has been put back since",
        ("S6",),
        _EVENTS,
        "was_heard = self._has_offered(agent, ack.mark)",
        "was_heard = True",
    ),
    Mutant(
        "forgotten-override-not-counted",
        "an open override that the restored database does not know as approved counts for nothing",
        ("S7",),
        "quota_server.ledger.override_events",
        "elif standing.state is OverrideState.APPROVED and override.state not in _HELD:",
        "elif False:",
    ),
    Mutant(
        "settled-at-the-count",
        "SPENT_LIMIT charges only what was reported",
        ("S2",),
        _ESCROW,
        """    charge = allocation.exposure
""",
        """    charge = allocation.used
""",
    ),
    Mutant(
        "risk-forgotten",
        "what LAST_REPORTED leaves open is not at risk",
        ("S3",),
        _ESCROW,
        """    at_risk = allocation.exposure - charge
""",
        """    at_risk = 0
""",
    ),
    Mutant(
        "final-totals-dropped",
        "the final totals do not become the charge",
        ("S6", "S7"),
        _ESCROW,
        """        charge=totals.count,
""",
        """        charge=0,
""",
    ),
    Mutant(
        "overrides-not-counted",
        "an approved override counts only once it is spent",
        ("S7",),
        _ESCROW,
        "    return Sums(overrides=override.amount, overridden=override.amount if override.settled else 0)",
        "    return Sums()",
    ),
    Mutant(
        "sums-drift",
        "a quota's sums do not follow one kind of record",
        ("S7",),
        "quota_server.ledger.book",
        """        case Override():
            return escrow.override_sums(record)
        case _:""",
        "        case _:",
    ),
    Mutant(
        "adopted-at-the-old-limit",
        "after a restore a store is taken to enforce what the ledger remembers",
        ("L1", "S3", "S7"),
        _ESCROW,
        """        exposure=max(allocation.exposure, standing.limit),
        offered=standing.limit,""",
        """        exposure=allocation.exposure,
        offered=min(standing.limit, allocation.exposure),""",
        second=Edit(
            _ESCROW,
            """    if standing.limit > allocation.exposure:
        return allocation  # a late statement of the same revision
    return replace(
        allocation,
        exposure=standing.limit,""",
            """    return replace(
        allocation,
        exposure=min(allocation.exposure, standing.limit),""",
        ),
    ),
    Mutant(
        "growth-while-recovering",
        "limits grow although not everybody was heard after a restore",
        ("S2",),
        _SHARING,
        """    if book.quotas[quota_uid].recovering:
        return
""",
        "",
    ),
    Mutant(
        "generation-begun-twice",
        "a database put back twice begins the same generation twice",
        ("S3",),
        "quota_server.ledger.claims",
        """    if met_generation(hello, mark) > generation or (unmet and mark.generation == generation):
        return True
""",
        "",
    ),
    Mutant(
        "said-only-once",
        "an update that was lost is not said again",
        ("L1",),
        "quota_server.fleet.protocol",
        "            if self._told_ms[quota_uid] <= due:",
        "            if self._told_ms[quota_uid] < 0:",
    ),
    Mutant(
        "freed-units-lie-idle",
        "nobody grows when units come free",
        ("L1",),
        "quota_server.ledger.link_batch",
        """            for quota_uid in sorted(fundable):
                sharing.fund(book, quota_uid)
""",
        "",
    ),
    Mutant(
        "protected-beyond-the-target",
        "a protected limit is kept although the target has to be met",
        ("L1",),
        _SHARING,
        "            floors |= fill(vessels, max(0, most - sum(floors.values())))",
        "            floors |= fill(vessels, sum(vessel.high - vessel.low for vessel in vessels))",
    ),
    Mutant(
        "unclear-commit-untold",
        "what an unclear commit decided is told to nobody",
        ("L1",),
        "quota_server.fleet.fleet",
        "        if refusal.unclear:",
        "        if refusal.unclear and self._over:",
    ),
)
