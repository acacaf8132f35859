"""Agents that forget a rule."""

from tests.simulation.mutants.mutant import Edit, Mutant

_ENTRIES = "quota_agent.gate.entries"
_QUOTA = "quota_agent.gate.quota"
_LINK = "quota_agent.gate.link"
_WRITER = "quota_agent.gate.writer"
_DRAFT = "quota_agent.gate.draft"
#: A store that was read again, and is older than what the gate knows, is taken all the same.
_GOES_ON = Edit(_WRITER, "if lost is not None:", "if lost is not None and not lost:")

MUTANTS = (
    Mutant(
        "holds-are-free",
        "a hold takes no room",
        ("S1",),
        _QUOTA,
        "return self.consumed - self.released + self.held",
        "return self.consumed - self.released",
    ),
    Mutant(
        "one-past-the-limit",
        "one unit more than there is room for is granted",
        ("S1",),
        _ENTRIES,
        """room = quota.limit - quota.used
""",
        """room = quota.limit - quota.used + 1
""",
    ),
    Mutant(
        "limit-below-use",
        "a limit below what is in use is applied as it is",
        ("S1",),
        _QUOTA,
        "self.limit = max(update.limit, self.used)",
        "self.limit = update.limit",
    ),
    Mutant(
        "override-spent-twice",
        "an override that is spent is spent again",
        ("S1",),
        _ENTRIES,
        "if override.state is not OverrideState.APPROVED:",
        "if override.state is OverrideState.DEAD:",
    ),
    Mutant(
        "override-overspent",
        "an override pays more than its amount",
        ("S1",),
        _ENTRIES,
        "if request.amount > override.amount:",
        "if request.amount > override.amount + 5:",
    ),
    Mutant(
        "late-update-applied",
        "the agent applies an update older than the one it has",
        ("S3",),
        _LINK,
        """elif update.revision <= quota.revision:
        return""",
        """elif update.revision == quota.revision:
        return""",
    ),
    Mutant(
        "limit-rises-again",
        "within one revision the limit goes back up",
        ("S3",),
        _QUOTA,
        "            self.limit = max(self.wanted, self.used)",
        "            self.limit = max(self.wanted, self.limit + 1)",
    ),
    Mutant(
        "acknowledged-from-memory",
        "a group is reported before it is durable",
        ("S3", "S4"),
        _WRITER,
        "lookup(state, group), lambda known: decide(state, group, known, self._settings)",
        """lookup(state, group),
                lambda known: (
                    lambda decision: (setattr(self, "state", decision.state), decision)[1]
                )(decide(state, group, known, self._settings))""",
        second=_GOES_ON,
    ),
    Mutant(
        "retry-counts-twice",
        "a request that is repeated counts again",
        ("S4",),
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
        ("S4",),
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
        ("S4", "S5", "S6"),
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
        ("S4",),
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
        ("S4",),
        _ENTRIES,
        """    if entry.state is source:
        return _step(draft, entry, target)""",
        """    if entry.state is source or (entry.state is target and operation.verb is Verb.RELEASE):
        return _step(draft, entry, target)""",
    ),
    Mutant(
        "fence-ignored",
        "a fenced store goes on granting",
        ("S6",),
        "quota_agent.gate.refusals",
        """    if agent.fenced is not None:
        kind""",
        """    if agent.fenced is not None and not agent.welcomed:
        kind""",
    ),
    Mutant(
        "fence-keeps-holds",
        "holds survive the fence",
        ("S6",),
        _LINK,
        """        draft.cancels_holds = True
""",
        "",
    ),
    Mutant(
        "fence-keeps-overrides",
        "overrides survive the fence",
        ("S6",),
        _LINK,
        """        overrides.close_all(draft)
""",
        "",
    ),
    Mutant(
        "baseline-of-a-mark-not-shown",
        "a copy is charged only what it spent since the mark that it holds",
        ("S6",),
        _QUOTA,
        "self.marked, self.marking = self.marking, self.totals",
        "self.marked = self.marking = self.totals",
    ),
    Mutant(
        "baseline-not-lowered",
        "what was released before a store was copied makes up for what the copy spent",
        ("S6",),
        _ENTRIES,
        """        quota.lower_marks()
""",
        "",
    ),
    Mutant(
        "overrides-not-written",
        "a group leaves out what became of overrides",
        ("L1",),
        _DRAFT,
        "overrides=self.overrides.values(),",
        "",
        second=_GOES_ON,
    ),
    Mutant(
        "spent-override-not-written",
        "that an override is spent is kept in memory only",
        ("S1", "S6"),
        _DRAFT,
        "overrides=self.overrides.values(),",
        "overrides=[each for each in self.overrides.values() if not each.spent],",
        second=_GOES_ON,
    ),
    Mutant(
        "demand-not-reported",
        "an agent does not say that it was refused",
        ("L2",),
        "quota_agent.gate.reporting",
        """        for unmet in decision.unmet:
            self.refused(unmet.quota_uid, unmet.request_id, unmet.amount, unmet.wait_ms)
""",
        "",
    ),
    Mutant(
        "denial-breaks-the-link",
        "an ask that is denied without becoming an override is not understood",
        ("L1",),
        "quotafleet.link.from_controller",
        "nameless = denied and ask_id and not message.override_id",
        "nameless = False",
    ),
)
