"""Verdicts, rules and tariff records as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from google.protobuf.message import Message
from rich.text import Text

from quota_server.cli import rules_keys, times
from quota_server.cli.output import Cell, as_dict, console, enum_name, print_facts, print_table, say, visible
from quota_server.cli.rules_judging import Judgement, Wish
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb

ASKED: Final = {
    pb.RULE_MOMENT_LIVE: "when a changed record is live after the transaction",
    pb.RULE_MOMENT_LIVE_OR_DELETED: "when a changed record is live before or after the transaction",
    pb.RULE_MOMENT_UPDATED: "when a changed record is live before and after the transaction",
    pb.RULE_MOMENT_DELETED: "when a record is deleted by the transaction",
    pb.RULE_MOMENT_CHANGED: "about every change itself",
}


def print_judgement(judged: Judgement, wish: Wish) -> None:
    """Everything that is wrong with a file, then what it was."""
    violations = [(verdict, each) for verdict in judged.answer.verdicts for each in verdict.violations]
    if violations:
        rows = (_violation_row(judged.name, *each) for each in violations)
        print_table(("rule", "record", "where", "since", "message~"), rows, "")
    malformed: list[list[Cell]] = [
        [
            _where(judged.name, verdict, each.line, each.change),
            visible(each.field) or "-",
            visible(each.expected),
        ]
        for verdict in judged.answer.verdicts
        for each in verdict.malformed
    ]
    if judged.unreadable is not None:
        metadata = judged.unreadable.metadata
        where = f"{judged.name}:{metadata['line']}" if metadata.get("line") else judged.name
        element = metadata.get("element") or "-"
        known = f"line {metadata.get('line')}: {element}: "
        message = judged.unreadable.message.removeprefix(known)
        malformed.append([where, visible(element), visible(message)])
    if malformed:
        print_table(("where", "field", "expected~"), malformed, "")
    _print_summary(judged, wish, shown=len(violations), malformed=len(malformed))


def _violation_row(name: str, verdict: pb.TransactionVerdict, violation: pb.Violation) -> list[Cell]:
    change = violation.triggered_by[0] if violation.triggered_by else 0
    return [
        violation.rule,
        visible(rules_keys.shown(violation.record)),
        _where(name, verdict, violation.line, change),
        Text("before", "yellow") if violation.preexisting else Text("new", "red"),
        visible(violation.message),
    ]


def _where(name: str, verdict: pb.TransactionVerdict, line: int, change: int) -> str:
    if not line:
        return f"{name} change {change}"
    if line == verdict.line:  # all on one line: that alone says little
        return f"{name}:{line} transaction {visible(verdict.transaction_id)} change {change}"
    return f"{name}:{line}"


def _print_summary(judged: Judgement, wish: Wish, *, shown: int, malformed: int) -> None:
    summary = judged.answer.summary
    if judged.unreadable is not None:
        say(f"{judged.name} cannot be read further; nothing after that place was judged", "red")
        return
    say(_basis(judged, wish), "dim")
    if summary.malformed:
        fields = number_of(summary.malformed, "malformed field")
        say(f"{fields}: no rule was asked about transactions with any", "red")
    if summary.violations:
        new = summary.violations - summary.preexisting
        text = f"{number_of(summary.violations, 'violation')}: {new} new, {summary.preexisting} from before"
        hidden = " (not shown)" if wish.only_new and summary.preexisting else ""
        say(text + hidden, "red" if new else "yellow")
    if not summary.malformed and not summary.violations:
        say("nothing is wrong", "green")
    wanted = summary.violations - (summary.preexisting if wish.only_new else 0)
    if shown < wanted or malformed < summary.malformed:
        say(f"the first {wish.limit} are shown: use --limit", "dim")
    say_skipped(summary)


def say_skipped(summary: pb.EnvelopeSummary) -> None:
    """Which records of an envelope were left out, if any."""
    if summary.skipped_records:
        skipped = ", ".join(f"{code} × {number}" for code, number in sorted(summary.skipped_records.items()))
        say(f"skipped, as no rule is about them: {skipped}", "dim")


def _basis(judged: Judgement, wish: Wish) -> str:
    answer = judged.answer
    if not answer.summary.transactions and answer.summary.malformed:
        return f"{judged.name}: not judged"
    profile = "eu" if wish.options.profile == pb.RULE_PROFILE_EU else "uk"
    data = f"data version {answer.data_version}" if answer.HasField("data_version") else "the data sent along"
    return (
        f"{judged.name}: {counted(answer.summary)}; today is {times.shown_day(wish.options.today)} (UTC), "
        f"profile {profile}, on {data}"
    )


def counted(summary: pb.EnvelopeSummary) -> str:
    """How much it is."""
    return f"{number_of(summary.transactions, 'transaction')}, {number_of(summary.changes, 'change')}"


def number_of(number: int, noun: str) -> str:
    """`1 change`, `2 changes`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def judgement_json(judged: Judgement, wish: Wish) -> dict[str, Any]:
    """A judgement for programs: the answer of ValidateTransaction, and what it is about."""
    error = {}
    if judged.unreadable is not None:
        failure = judged.unreadable
        error = {
            "error": {
                "message": failure.message,
                "reason": failure.reason,
                "metadata": dict(failure.metadata),
            }
        }
    today = times.shown_day(wish.options.today)
    return {"file": judged.name, "today": today, **as_dict(judged.answer), **error}


# --- rules -----------------------------------------------------------------------------------------------------------


def print_rules(rules: Iterable[pb.Rule]) -> None:
    """One line per rule."""
    rows: list[list[Cell]] = [
        [
            rule.code,
            _kinds(rule.about),
            enum_name(pb.RuleMoment.DESCRIPTOR, rule.asked) + (" (UK)" if rule.only_uk else ""),
            rule.text,
        ]
        for rule in rules
    ]
    print_table(("code", "about", "asked of", "text~"), rows, "no rules")


def print_rule(rule: pb.Rule) -> None:
    """Everything about a rule."""
    facts: list[tuple[str, Cell]] = [
        ("code", rule.code),
        ("text", rule.text),
        ("about", _kinds(rule.about)),
        ("asked", ASKED.get(rule.asked, str(rule.asked))),
        ("asked too", f"when a linked record changes: {_kinds(rule.triggers)}" if rule.triggers else "-"),
        ("profiles", "uk only" if rule.only_uk else "uk, eu"),
    ]
    print_facts(facts)


def _kinds(kinds: Iterable[int]) -> str:
    return ", ".join(map(rules_keys.kind_name, kinds)) or "all kinds"


# --- records ---------------------------------------------------------------------------------------------------------


def print_version(version: pb.RecordVersion) -> None:
    """Everything about one version of a record."""
    record = _record_of(version)
    facts: list[tuple[str, Cell]] = [("kind", version.record.WhichOneof("record") or "-")]
    facts += [(name, text) for name, text in fields_of(record)]
    facts += [
        ("deleted", Text("yes", "red") if version.deleted else "no"),
        ("data version", str(version.data_version)),
        ("committed", f"{times.shown(version.commit_time)} by {version.actor or 'unknown'}"),
        ("reason", visible(version.reason) or "-"),
    ]
    print_facts(facts)


def print_line(version: pb.RecordVersion) -> None:
    """A record on one line, whatever the width of the screen: for eyes and for grep."""
    kind = version.record.WhichOneof("record") or "-"
    fields = " ".join(f"{name}={text}" for name, text in fields_of(_record_of(version)) if text != "-")
    line = Text.assemble((kind, "bold"), " ", fields)
    line.append(f" version={version.data_version}", "dim")
    if version.deleted:
        line.append(" deleted", "red")
    console().print(line, soft_wrap=True)


def _record_of(version: pb.RecordVersion) -> Message:
    record: Message = getattr(version.record, version.record.WhichOneof("record") or "measure")
    return record


def fields_of(record: Message) -> Iterator[tuple[str, str]]:
    """The fields of a record and what they hold; `-` if nothing."""
    for field in record.DESCRIPTOR.fields:
        value = getattr(record, field.name)
        given = record.HasField(field.name) if field.has_presence else True
        yield field.name, (_shown(field, value) or "-") if given else "-"


def _shown(field: Any, value: Any) -> str:
    match value:
        case records_pb.DatePeriod():
            start = times.shown_day(value.start_date)
            return (
                f"{start}..{times.shown_day(value.end_date)}" if value.HasField("end_date") else f"{start}.."
            )
        case bool():
            return "yes" if value else "no"
        case Mapping():
            return visible(", ".join(f"{name}={text}" for name, text in sorted(value.items())))
        case int() if field.enum_type is not None:
            return enum_name(field.enum_type, value)
        case str():
            return visible(value)
        case int():
            return str(value)
        case Message():
            return _shown_message(value)
        case _:
            return ", ".join(map(str, value))


def _shown_message(value: Any) -> str:
    match value.DESCRIPTOR.full_name:
        case "google.type.Date":
            return times.shown_day(value)
        case "google.type.DateTime":
            return rules_keys.shown_moment(value)
        case _:
            return str(value.value)
