"""Programs broken on purpose: each forgets one rule. The simulation has to notice, or it proves nothing."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change of one module's source: `find` is there exactly once."""

    name: str
    #: The rule that is broken, in a few words.
    what: str
    module: str
    find: str
    put: str


_ESCROW = "quota_server.ledger.escrow"
_EVENTS = "quota_server.ledger.link_events"
_ENTRIES = "quota_agent.gate.entries"
_QUOTA = "quota_agent.gate.quota"
_LINK = "quota_agent.gate.link"
_WRITER = "quota_agent.gate.writer"

MUTANTS = (
    # --- S1: the agent's own limit
    Mutant(
        "holds-are-free",
        "a hold takes no room",
        _QUOTA,
        "return self.consumed - self.released + self.held",
        "return self.consumed - self.released",
    ),
    Mutant(
        "one-past-the-limit",
        "one unit more than there is room for is granted",
        _ENTRIES,
        "room = quota.limit - quota.used\n",
        "room = quota.limit - quota.used + 1\n",
    ),
    Mutant(
        "limit-below-use",
        "a limit below what is in use is applied as it is",
        _QUOTA,
        "self.limit = max(update.limit, self.used)",
        "self.limit = update.limit",
    ),
    Mutant(
        "override-spent-twice",
        "an override that is spent is spent again",
        _ENTRIES,
        "if override.state is not OverrideState.APPROVED:",
        "if override.state is OverrideState.DEAD:",
    ),
    Mutant(
        "override-overspent",
        "an override pays more than its amount",
        _ENTRIES,
        "if request.amount > override.amount:",
        "if request.amount > override.amount + 5:",
    ),
    # --- S2: the target
    Mutant(
        "fund-without-end",
        "limits grow to what is wanted, whatever is left",
        "quota_server.ledger.sharing",
        "limit = min(allocation.wanted, _ceiling(book, allocation))\n    if limit > allocation.offered:\n        book.decide(offer(allocation, limit, book.meta.generation))\n\n\ndef _ceiling",
        "limit = allocation.wanted\n    if limit > allocation.offered:\n        book.decide(offer(allocation, limit, book.meta.generation))\n\n\ndef _ceiling",
    ),
    Mutant(
        "one-past-the-target",
        "one unit more than the target is shared out",
        "quota_server.ledger.sharing",
        "return allocation.exposure + quota.target - quota.escrowed",
        "return allocation.exposure + quota.target - quota.escrowed + 1",
    ),
    Mutant(
        "target-below-count",
        "a target below the known count is taken",
        "quota_server.ledger.administration",
        "if target < quota.target and target < quota.known_count:",
        "if target < quota.target and target < quota.known_count - 1_000_000:",
    ),
    Mutant(
        "copies-are-free",
        "E leaves out what copies were charged",
        _ESCROW,
        "charge = allocation.charge + allocation.copies",
        "charge = allocation.charge",
    ),
    # --- S3: the order of change
    Mutant(
        "grow-before-the-acknowledgement",
        "the exposure falls when the smaller limit is sent",
        _ESCROW,
        "exposure=max(allocation.exposure, limit),",
        "exposure=limit,",
    ),
    Mutant(
        "exposure-forgotten",
        "a limit is sent that no exposure stands for",
        _ESCROW,
        "exposure=max(allocation.exposure, limit),",
        "exposure=allocation.exposure,",
    ),
    Mutant(
        "any-acknowledgement-will-do",
        "an acknowledgement of an older revision lowers the exposure",
        _ESCROW,
        "if allocation.settled or standing.revision != allocation.revision:",
        "if allocation.settled:",
    ),
    Mutant(
        "revision-reused",
        "another limit goes out under the same revision",
        _ESCROW,
        "revision=allocation.revision.next(generation),",
        "revision=allocation.revision if allocation.revision.number > 3 else allocation.revision.next(generation),",
    ),
    Mutant(
        "late-update-applied",
        "the agent applies an update older than the one it has",
        _LINK,
        "elif update.revision <= quota.revision:\n        return",
        "elif update.revision == quota.revision:\n        return",
    ),
    Mutant(
        "limit-rises-again",
        "within one revision the limit goes back up",
        _QUOTA,
        "            self.limit = max(self.wanted, self.used)",
        "            self.limit = max(self.wanted, self.limit + 1)",
    ),
    Mutant(
        "acknowledged-from-memory",
        "a group is reported before it is durable",
        _WRITER,
        "lookup(state, group), lambda known: decide(state, group, known, self._settings)",
        """lookup(state, group),
                lambda known: (
                    lambda decision: (setattr(self, "state", decision.state), decision)[1]
                )(decide(state, group, known, self._settings))""",
    ),
    Mutant(
        "late-statement-raises",
        "a late statement of a larger limit raises the exposure again",
        _ESCROW,
        "    if standing.limit > allocation.exposure:\n        return allocation  # a late statement of the same revision\n",
        "",
    ),
    # --- S4: what was answered
    Mutant(
        "retry-counts-twice",
        "a request that is repeated counts again",
        _ENTRIES,
        "        if entry is not None:\n            assert quota is not None\n            return _repeat(quota, request, entry)",
        "        if entry is not None and entry.state is _HELD:\n            assert quota is not None\n            return _repeat(quota, request, entry)",
    ),
    Mutant(
        "answered-before-the-commit",
        "the answer goes out while the group is being written",
        _WRITER,
        "            decision = await self._store.transact(\n                lookup(state, group), lambda known: decide(state, group, known, self._settings)\n            )",
        """            early = asyncio.get_running_loop().create_future()

            def decided(known: Any) -> Decision:
                decision = decide(state, group, known, self._settings)
                early.set_result(decision)
                return decision

            self._writing = asyncio.ensure_future(self._store.transact(lookup(state, group), decided))
            decision = await early""",
    ),
    Mutant(
        "store-not-read-again",
        "after a failure that left it open what was written, the gate goes on from memory",
        _WRITER,
        "            self._stale = self._stale or not error.clean\n            self._set_healthy(False)\n            raise",
        "            self._set_healthy(False)\n            raise",
    ),
    Mutant(
        "refused-batch-is-kept",
        "what a refused batch would have been granted stays",
        _ENTRIES,
        "            draft.unmet += fork.unmet\n",
        "            draft.unmet += fork.unmet\n            draft.absorb(fork)\n",
    ),
    Mutant(
        "ended-entry-released-again",
        "releasing twice gives back twice",
        _ENTRIES,
        "    if entry.state is source:\n        return _step(draft, entry, target)",
        "    if entry.state is source or (entry.state is target and operation.verb is Verb.RELEASE):\n        return _step(draft, entry, target)",
    ),
    # --- S5: sums
    Mutant(
        "lower-count-trusted",
        "totals that are lower than those known are taken",
        _ESCROW,
        "if allocation.settled or not standing.totals.covers(allocation.totals):",
        "if allocation.settled:",
    ),
    Mutant(
        "old-sequence-trusted",
        "an older standing replaces a newer one",
        _ESCROW,
        "    if standing.sequence < allocation.sequence:\n        return allocation\n    return replace(\n        allocation,\n        totals=standing.totals,",
        "    return replace(\n        allocation,\n        totals=standing.totals,",
    ),
    Mutant(
        "old-dial-accepted",
        "a late hello takes the agent over",
        _EVENTS,
        "if hello.dial <= epoch.last_dial:",
        "if hello.dial < epoch.last_dial - 1:",
    ),
    Mutant(
        "any-stream-owns-the-agent",
        "a report on an older stream counts",
        _EVENTS,
        "return epoch if epoch is not None and epoch.last_dial == dial and epoch.online else None",
        "return epoch if epoch is not None and epoch.online else None",
    ),
    # --- S6: fences
    Mutant(
        "fence-ignored",
        "a fenced store goes on granting",
        "quota_agent.gate.refusals",
        "    if agent.fenced is not None:\n        kind",
        "    if agent.fenced is not None and not agent.welcomed:\n        kind",
    ),
    Mutant(
        "fence-keeps-holds",
        "holds survive the fence",
        _LINK,
        "        draft.cancels_holds = True\n",
        "",
    ),
    Mutant(
        "fence-keeps-overrides",
        "overrides survive the fence",
        _LINK,
        "        overrides.close_all(draft)\n",
        "",
    ),
    Mutant(
        "epoch-ignored",
        "the store of an ended epoch is welcomed",
        _EVENTS,
        "        if epoch.ended:\n            return Reply((Fence(FenceKind.ENDED),))\n        self._notice_restore",
        "        self._notice_restore",
    ),
    Mutant(
        "fenced-store-welcomed",
        "a ledger that was put back welcomes a store that is fenced",
        _EVENTS,
        "if hello.fenced is not None:",
        "if hello.fenced is not None and epoch.ended:",
    ),
    Mutant(
        "mark-rotated-early",
        "every report moves the session mark on",
        _EVENTS,
        "if report.mark == self._marks.encode(agent, epoch.offered):",
        "if report.mark:",
    ),
    Mutant(
        "any-mark-welcomed",
        "a mark that was replaced long ago is accepted",
        _EVENTS,
        "known = mark in (epoch.shown, epoch.offered)",
        "known = True",
    ),
    Mutant(
        "copies-not-charged",
        "what a copy spent is dropped",
        _EVENTS,
        "if spent <= 0 or final.quota_uid not in self._book.quotas:",
        "if spent <= 3 or final.quota_uid not in self._book.quotas:",
    ),
    Mutant(
        "baseline-of-a-mark-not-shown",
        "a copy is charged only what it spent since the mark that it holds",
        _QUOTA,
        "self.marked, self.marking = self.marking, self.totals",
        "self.marked = self.marking = self.totals",
    ),
    Mutant(
        "baseline-not-lowered",
        "what was released before a store was copied makes up for what the copy spent",
        _ENTRIES,
        "        quota.lower_marks()\n",
        "",
    ),
    # --- S7: bounds
    Mutant(
        "settled-at-the-count",
        "SPENT_LIMIT charges only what was reported",
        _ESCROW,
        "    charge = allocation.exposure\n",
        "    charge = allocation.used\n",
    ),
    Mutant(
        "risk-forgotten",
        "what LAST_REPORTED leaves open is not at risk",
        _ESCROW,
        "    at_risk = allocation.exposure - charge\n",
        "    at_risk = 0\n",
    ),
    Mutant(
        "final-totals-dropped",
        "the final totals do not become the charge",
        _ESCROW,
        "        charge=totals.count,\n",
        "        charge=0,\n",
    ),
    Mutant(
        "overrides-not-counted",
        "an approved override counts only once it is spent",
        _ESCROW,
        "    return Sums(overrides=override.amount, overridden=override.amount if override.settled else 0)",
        "    return Sums()",
    ),
    Mutant(
        "sums-drift",
        "a quota's sums do not follow one kind of record",
        "quota_server.ledger.book",
        "        case Override():\n            return escrow.override_sums(record)\n        case _:",
        "        case _:",
    ),
    Mutant(
        "adopted-at-the-old-limit",
        "after a restore a store is taken to enforce what the ledger remembers",
        _ESCROW,
        "        exposure=max(allocation.exposure, standing.limit),\n        offered=standing.limit,",
        "        exposure=allocation.exposure,\n        offered=min(standing.limit, allocation.exposure),",
    ),
    Mutant(
        "growth-while-recovering",
        "limits grow although not everybody was heard after a restore",
        "quota_server.ledger.sharing",
        "    if book.quotas[quota_uid].recovering:\n        return\n",
        "",
    ),
    Mutant(
        "generation-begun-twice",
        "a database put back twice begins the same generation twice",
        "quota_server.ledger.claims",
        "    if mark.generation > generation or (unmet and mark.generation == generation):\n        return True\n",
        "",
    ),
    # --- L1 and L2
    Mutant(
        "said-only-once",
        "an update that was lost is not said again",
        "quota_server.fleet.protocol",
        "            if self._told_ms[quota_uid] <= due:",
        "            if self._told_ms[quota_uid] < 0:",
    ),
    Mutant(
        "freed-units-lie-idle",
        "nobody grows when units come free",
        "quota_server.ledger.link_batch",
        "            for quota_uid in sorted(fundable):\n                sharing.fund(book, quota_uid)\n",
        "",
    ),
    Mutant(
        "demand-not-reported",
        "an agent does not say that it was refused",
        "quota_agent.gate.reporting",
        "        for unmet in decision.unmet:\n            self.refused(unmet.quota_uid, unmet.request_id, unmet.amount, unmet.wait_ms)\n",
        "",
    ),
    Mutant(
        "unclear-commit-untold",
        "what an unclear commit decided is told to nobody",
        "quota_server.fleet.fleet",
        "        if refusal.unclear:",
        "        if refusal.unclear and self._over:",
    ),
    Mutant(
        "denial-breaks-the-link",
        "an ask that is denied without becoming an override is not understood",
        "quotafleet.link.from_controller",
        "nameless = not message.override_id and ask_id and state is OverrideState.DENIED",
        "nameless = False",
    ),
)
