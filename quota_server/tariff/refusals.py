"""Why a commit of tariff data is refused."""

from __future__ import annotations

from quota_server.errors import LedgerRefusal
from quota_server.tariff.judging import Judged
from rules.violation import Violation

_NAMED = 5
_MAX_FIELDS = 20
_MAX_MESSAGE_CHARS = 300


def refuse_wrong(judged: Judged, *, allow_preexisting: bool) -> None:
    """Raises RECORDS_MALFORMED or RULES_VIOLATED if a transaction must not be stored."""
    if judged.malformed:
        raise _malformed(judged)
    refused = [each for each in judged.violations if not (allow_preexisting and each.preexisting)]
    if refused:
        raise _violated(judged, refused)


def data_changed(expected: int, number: int) -> LedgerRefusal:
    """The data is not at the version that the caller named, or that the commit was judged on."""
    return LedgerRefusal(
        "DATA_CHANGED",
        f"the tariff data is at version {number}, not {expected}: look at what has changed, then try again",
        metadata={"expected_data_version": expected, "data_version": number},
    )


def _malformed(judged: Judged) -> LedgerRefusal:
    total = len(judged.malformed)
    lines = judged.malformed_lines or (0,) * total
    fields: dict[str, str] = {}
    for each, line in list(zip(judged.malformed, lines, strict=True))[:_MAX_FIELDS]:
        path = f"changes[{each.index}].{each.field}"
        if line:
            path = f"envelope.line[{line}].{each.field}"
        fields.setdefault(path, each.expected[:_MAX_MESSAGE_CHARS])
    first, problem = next(iter(fields.items()))
    rest = f" ({total - 1} more)" if total > 1 else ""
    return LedgerRefusal(
        "RECORDS_MALFORMED",
        f"{_place(judged)}{first}: {problem}{rest}",
        metadata={"malformed": total, **_where(judged)},
        fields=fields,
    )


def _violated(judged: Judged, refused: list[Violation]) -> LedgerRefusal:
    named = "; ".join(f"{each.rule} of {each.record}: {_short(each.message)}" for each in refused[:_NAMED])
    rest = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    first = refused[0]
    return LedgerRefusal(
        "RULES_VIOLATED",
        f"{_place(judged)}{named}{rest}",
        metadata={
            "violations": len(judged.violations),
            "preexisting": sum(each.preexisting for each in judged.violations),
            "rule": first.rule,
            "record": str(first.record),
            "line": judged.line_of(first),
            **_where(judged),
        },
    )


def _short(message: str) -> str:
    return message if len(message) <= _MAX_MESSAGE_CHARS else f"{message[:_MAX_MESSAGE_CHARS]}..."


def _place(judged: Judged) -> str:
    return f"transaction {judged.transaction_id[:64]}: " if judged.transaction_id else ""


def _where(judged: Judged) -> dict[str, str | int]:
    return {"transaction_id": judged.transaction_id[:64]} if judged.transaction_id else {}
