"""Why tariff data is not taken. What is said is short: it travels in the call's trailers, which are bounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from quota_server.errors import LedgerRefusal
from quota_server.tariff.judged import Judged
from rules.malformed import Malformed
from rules.taric.errors import TaricError
from rules.violation import Violation

_MAX_NAMED: Final = 5
_MAX_FIELDS: Final = 20
_MAX_MESSAGE_BYTES: Final = 160
_MAX_EXPECTED_BYTES: Final = 80
_MAX_NAME_BYTES: Final = 64

#: Where a malformed field stands, as the caller sees it: from it and its line in the envelope, 0 for none.
PathOf = Callable[[Malformed, int], str]


def refuse_wrong(judged: Judged, path_of: PathOf, *, allow_preexisting: bool) -> None:
    """Raises RECORDS_MALFORMED or RULES_VIOLATED if a transaction must not be stored."""
    if judged.malformed:
        raise records_malformed(judged.malformed, path_of, judged.malformed_lines, judged.transaction_id)
    refused = [each for each in judged.violations if not (allow_preexisting and each.preexisting)]
    if refused:
        raise _rules_violated(judged, refused)


def records_malformed(
    wrong: Sequence[Malformed], path_of: PathOf, lines: Sequence[int] = (), transaction_id: str = ""
) -> LedgerRefusal:
    """Records of what came in are malformed; `wrong` is not empty."""
    fields: dict[str, str] = {}
    for each, line in zip(wrong[:_MAX_FIELDS], (lines or [0] * len(wrong))[:_MAX_FIELDS], strict=True):
        fields.setdefault(path_of(each, line), shortened(each.expected, _MAX_EXPECTED_BYTES))
    path, expected = next(iter(fields.items()))
    return LedgerRefusal(
        "RECORDS_MALFORMED",
        f"{_place(transaction_id)}{path}: {expected}{_more(len(wrong) - 1)}",
        metadata={"malformed": len(wrong), **_where(transaction_id)},
        fields=fields,
    )


def data_changed(expected: int, number: int) -> LedgerRefusal:
    """The data is not at the version that the caller named, or that the commit was judged on."""
    return LedgerRefusal(
        "DATA_CHANGED",
        f"the tariff data is at version {number}, not {expected}: look at what has changed, then try again",
        metadata={"expected_data_version": expected, "data_version": number},
    )


def envelope_invalid(error: TaricError, path: str = "") -> LedgerRefusal:
    """The envelope cannot be read any further."""
    message = shortened(str(error), 4 * _MAX_MESSAGE_BYTES)
    return LedgerRefusal(
        "ENVELOPE_INVALID",
        f"{path}: {message}" if path else message,
        metadata={"line": error.line, "element": shortened(error.element, _MAX_NAME_BYTES)},
    )


def shortened(text: str, most: int) -> str:
    """The text, cut off if it has more bytes than that."""
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= most else f"{encoded[:most].decode(errors='ignore')}..."


def _rules_violated(judged: Judged, refused: list[Violation]) -> LedgerRefusal:
    named = "; ".join(
        f"{each.rule} of {shortened(str(each.record), _MAX_NAME_BYTES)}: "
        f"{shortened(each.message, _MAX_MESSAGE_BYTES)}"
        for each in refused[:_MAX_NAMED]
    )
    first = refused[0]
    return LedgerRefusal(
        "RULES_VIOLATED",
        f"{_place(judged.transaction_id)}{named}{_more(len(refused) - _MAX_NAMED)}",
        metadata={
            "violations": len(judged.violations),
            "preexisting": sum(each.preexisting for each in judged.violations),
            "rule": first.rule,
            "record": shortened(str(first.record), _MAX_NAME_BYTES),
            "line": judged.line_of(first),
            **_where(judged.transaction_id),
        },
    )


def _more(number: int) -> str:
    return f"; and {number} more" if number > 0 else ""


def _place(transaction_id: str) -> str:
    return f"transaction {shortened(transaction_id, _MAX_NAME_BYTES)}: " if transaction_id else ""


def _where(transaction_id: str) -> dict[str, str | int]:
    return {"transaction_id": shortened(transaction_id, _MAX_NAME_BYTES)} if transaction_id else {}
