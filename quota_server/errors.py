"""What the controller refuses, and why: one tree, its reasons those of `quotafleet.v1.ErrorReason`."""

from __future__ import annotations

from collections.abc import Mapping


class QuotaServerError(Exception):
    """Everything that this package raises on purpose."""


class LedgerRefusal(QuotaServerError):
    """The ledger does not do what it was asked; nothing was changed.

    `reason` is the name of an ErrorReason, `metadata` its numbers, `fields` what is wrong with each bad field by path.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str | int] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}
        self.fields = dict(fields or {})


class StoreUnavailable(LedgerRefusal):
    """The database did not take the change. If it is `unclear`, the commit itself failed: it may have been taken.

    `certain`: the database itself has said that it took everything back.
    """

    def __init__(self, message: str, *, unclear: bool = False, certain: bool = False) -> None:
        super().__init__("STORE_UNAVAILABLE", message)
        self.unclear = unclear
        self.certain = certain


class StoreConflict(StoreUnavailable):
    """Nothing was changed: another transaction was in the way, or the connection was lost before the commit.

    The same may be tried again at once.
    """


class DatabaseUnusable(QuotaServerError):
    """The database cannot be served from: another process holds it, another version wrote it, or nobody answers."""


class AlreadyAnswered(QuotaServerError):
    """The request_id was answered before; `answer` is what was recorded."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("the request_id was answered before")
        self.answer = answer


def field_invalid(path: str, problem: str) -> LedgerRefusal:
    """The refusal of one bad field."""
    return fields_invalid({path: problem})


def fields_invalid(fields: Mapping[str, str]) -> LedgerRefusal:
    """The refusal of several bad fields at once; `fields` is not empty."""
    text = "; ".join(f"{path}: {problem}" for path, problem in fields.items())
    return LedgerRefusal("FIELD_INVALID", text, fields=fields)


def quota_unknown(name: str) -> LedgerRefusal:
    """No quota has this name or uid."""
    return LedgerRefusal("QUOTA_UNKNOWN", f"there is no quota {name!r}", metadata={"quota": name})


def agent_unknown(name: str) -> LedgerRefusal:
    """No agent has this name or uid."""
    return LedgerRefusal("AGENT_UNKNOWN", f"there is no agent {name!r}", metadata={"agent": name})


def not_assigned(quota: str, agent: str) -> LedgerRefusal:
    """The agent has no part in the quota."""
    return LedgerRefusal(
        "NOT_ASSIGNED",
        f"agent {agent!r} has no part in quota {quota!r}; assign it first",
        metadata={"quota": quota, "agent": agent},
    )
