"""Everything the agent raises. Errors of drivers are translated where the driver is used."""

from __future__ import annotations

from collections.abc import Mapping


class AgentError(Exception):
    """The agent cannot do what it was asked to."""


class Refusal(AgentError):
    """A request that was refused and left nothing behind.

    `reason` is the name of an ErrorReason without its prefix; callers switch on it. `metadata` carries the numbers of
    the refusal. `fields` says what is wrong with each bad field, by its path; only FIELD_INVALID has any.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        metadata: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.fields = dict(fields or {})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason!r}, {self.message!r})"

    def of_item(self, index: int) -> Refusal:
        """The same refusal, said of item `index` of a batch: metadata `index`, and paths that start at the item."""
        fields = {f"items[{index}].{path}": wrong for path, wrong in self.fields.items()}
        return Refusal(self.reason, self.message, {**self.metadata, "index": str(index)}, fields)


class StoreUnavailable(Refusal):
    """The store took nothing: nothing was counted, and the same request_id may be tried again.

    `clean` says that the store rolled back and is as it was. If it is false, nobody knows what the disk holds until
    the store is opened again.
    """

    def __init__(self, message: str, *, clean: bool = False) -> None:
        super().__init__("STORE_UNAVAILABLE", message)
        self.clean = clean


class StoreUnusable(AgentError):
    """This file cannot be this agent's store; the message says why and what to do. Trying again does not help."""


def field_invalid(fields: Mapping[str, str]) -> Refusal:
    """The refusal for bad fields: what is wrong, by the field's path."""
    said = "; ".join(f"{path}: {wrong}" for path, wrong in fields.items())
    return Refusal("FIELD_INVALID", said, fields=fields)
