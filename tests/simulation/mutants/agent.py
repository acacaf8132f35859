"""Agents that forget a rule."""

from tests.simulation.mutants.mutant import Mutant

_ENTRIES = "quota_agent.gate.entries"
_QUOTA = "quota_agent.gate.quota"
_LINK = "quota_agent.gate.link"
_WRITER = "quota_agent.gate.writer"

MUTANTS = (
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
        """room = quota.limit - quota.used
""",
        """room = quota.limit - quota.used + 1
""",
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
    Mutant(
        "late-update-applied",
        "the agent applies an update older than the one it has",
        _LINK,
        """elif update.revision <= quota.revision:
        return""",
        """elif update.revision == quota.revision:
        return""",
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
        "retry-counts-twice",
        "a request that is repeated counts again",
        _ENTRIES,
        """        if entry is not None:
            assert quota is not None
            return _repeat(quota, request, entry)""",
        """        if entry is not None and entry.state is _HELD:
            assert quota is not None
            return _repeat(quota, request, entry)""",
    ),
    Mutant(
        "answered-before-the-commit",
        "the answer goes out while the group is being written",
        _WRITER,
        """            decision = await self._store.transact(
                lookup(state, group), lambda known: decide(state, group, known, self._settings)
            )""",
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
        """            self._stale = self._stale or not error.clean
            self._set_healthy(False)
            raise""",
        """            self._set_healthy(False)
            raise""",
    ),
    Mutant(
        "refused-batch-is-kept",
        "what a refused batch would have been granted stays",
        _ENTRIES,
        """            draft.unmet += fork.unmet
""",
        """            draft.unmet += fork.unmet
            draft.absorb(fork)
""",
    ),
    Mutant(
        "ended-entry-released-again",
        "releasing twice gives back twice",
        _ENTRIES,
        """    if entry.state is source:
        return _step(draft, entry, target)""",
        """    if entry.state is source or (entry.state is target and operation.verb is Verb.RELEASE):
        return _step(draft, entry, target)""",
    ),
    Mutant(
        "fence-ignored",
        "a fenced store goes on granting",
        "quota_agent.gate.refusals",
        """    if agent.fenced is not None:
        kind""",
        """    if agent.fenced is not None and not agent.welcomed:
        kind""",
    ),
    Mutant(
        "fence-keeps-holds",
        "holds survive the fence",
        _LINK,
        """        draft.cancels_holds = True
""",
        "",
    ),
    Mutant(
        "fence-keeps-overrides",
        "overrides survive the fence",
        _LINK,
        """        overrides.close_all(draft)
""",
        "",
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
        """        quota.lower_marks()
""",
        "",
    ),
    Mutant(
        "demand-not-reported",
        "an agent does not say that it was refused",
        "quota_agent.gate.reporting",
        """        for unmet in decision.unmet:
            self.refused(unmet.quota_uid, unmet.request_id, unmet.amount, unmet.wait_ms)
""",
        "",
    ),
    Mutant(
        "denial-breaks-the-link",
        "an ask that is denied without becoming an override is not understood",
        "quotafleet.link.from_controller",
        "nameless = not message.override_id and ask_id and state is OverrideState.DENIED",
        "nameless = False",
    ),
)
