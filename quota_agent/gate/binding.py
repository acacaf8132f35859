"""Whose store this is: the rules by which a credential and a store belong together."""

from __future__ import annotations

from quota_agent.errors import StoreUnusable
from quota_agent.gate.operations import Bind
from quota_agent.gate.records import Agent


def must_archive(agent: Agent, wanted: Bind) -> bool:
    """Whether a store has to be put aside for the enrolment `wanted`, having said its last word for an older one.

    Raises StoreUnusable if the store is another agent's, or has an epoch that this credential cannot follow.
    """
    if not agent.agent_uid or (agent.agent_uid, agent.epoch) == (wanted.agent_uid, wanted.epoch):
        return False
    if agent.agent_uid != wanted.agent_uid:
        raise StoreUnusable(
            f"this store belongs to the agent {agent.agent!r} (uid {agent.agent_uid}), not to {wanted.agent!r}"
            f" (uid {wanted.agent_uid}): give it the credential of its own agent, or this agent a store of its own"
        )
    if agent.epoch > wanted.epoch:
        raise StoreUnusable(
            f"this store is of epoch {agent.epoch}, the credential of the older epoch {wanted.epoch}:"
            " use the newest credential"
        )
    if agent.fenced is None or not agent.fence_confirmed:
        raise StoreUnusable(
            f"this store is of epoch {agent.epoch} and has not reported its final totals; the credential is of"
            f" epoch {wanted.epoch}. Run once with the old credential, so that they are reported; or move the store"
            " away: what it spent and did not report then stays charged"
        )
    return True
