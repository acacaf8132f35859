"""Controllers beside others on one database that forget a rule."""

from tests.simulation.mutants.mutant import Mutant

_AGAIN = "quota_server.fleet.again"
_CALLS = "quota_server.ledger.calls"
_EVENTS = "quota_server.ledger.link_events"
_OTHERS = "quota_server.fleet.others"
_ROUNDS = "quota_server.fleet.rounds"

MUTANTS = (
    Mutant(
        "notice-is-all",
        "nobody looks where no notice points to: what a lost one said is never found",
        ("L1",),
        _OTHERS,
        "async with asyncio.timeout(pause_ms / 1000):",
        "async with asyncio.timeout(None):",
    ),
    Mutant(
        "overrides-not-swept",
        "a sweep looks at limits, not at overrides",
        ("L1",),
        _OTHERS,
        "if self._connections and (notice.everything or notice.overrides):",
        "if self._connections and notice.overrides:",
    ),
    Mutant(
        "lease-never-lapses",
        "the streams of a controller that is gone are taken for up for ever",
        ("L1",),
        _OTHERS,
        "leases.renew(max(LEASE_HEARTBEATS * self._heartbeat_ms, LEAST_LEASE_MS))",
        "leases.renew(10**9)",
    ),
    Mutant(
        "stream-of-nobody",
        "a stream that is welcomed stays with the controller that had the one before",
        ("S5",),
        _EVENTS,
        "owner=self._controller,",
        "owner=epoch.owner or self._controller,",
    ),
    Mutant(
        "silent-stream-is-kept",
        "a stream on which nothing comes any more is taken for up until the agent is back on the same controller",
        ("L1",),
        "quota_server.fleet.protocol",
        "if now_ms - self._heard_ms > 2 * self._heartbeat_ms:",
        "if now_ms < self._heard_ms:",
    ),
    Mutant(
        "unclear-commit-retried",
        "what may have been committed is done once more",
        ("S4",),
        _AGAIN,
        "from quota_server.errors import StoreConflict",
        "from quota_server.errors import StoreUnavailable as StoreConflict",
    ),
    Mutant(
        "conflict-not-retried",
        "what another transaction was in the way of is given up",
        ("L3",),
        _AGAIN,
        "for _ in range(TRIES - 1):",
        "for _ in range(0):",
    ),
    Mutant(
        "repeat-carried-out-again",
        "a call that is repeated with its request_id is carried out again",
        ("S4",),
        _CALLS,
        "if recorded is None:",
        "if recorded is None or recorded.method:",
    ),
    Mutant(
        "applied-before-it-is",
        "an agent on another controller is said to have applied what it was only told",
        ("S4",),
        _ROUNDS,
        "round_.acknowledged(agent, participant.acknowledged, now_ms)",
        "round_.acknowledged(agent, participant.needed, now_ms)",
    ),
    Mutant(
        "asked-is-answered",
        "agents on another controller are said to have answered, and are not asked",
        ("S7",),
        _ROUNDS,
        "        self._ask(relayed.pending, relayed.request)",
        """        for agent in relayed.pending:
            tell(agent)""",
    ),
)
