"""Quotas, counts, outcomes and histories as people read them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from rich.text import Text

from quota_server.cli import times
from quota_server.cli.amounts import shown
from quota_server.cli.output import Cell, enum_name, print_facts, print_table, say
from quotafleet.v1 import quota_service_pb2 as pb

_STYLES: Final = {
    pb.OUTCOME_APPLIED: "green",
    pb.OUTCOME_PENDING_OFFLINE: "yellow",
    pb.OUTCOME_TIMED_OUT: "yellow",
    pb.OUTCOME_FENCED: "red",
}
_STATE_STYLES: Final = {pb.QUOTA_STATE_OPEN: "green", pb.QUOTA_STATE_SUSPENDED: "yellow"}
#: Settings in a history that count units.
_AMOUNTS: Final = frozenset(
    {"target", "agent_target", "amount", "charge", "at_risk", "min", "max", "initial_count"}
)
_LIMITS_SHOWN: Final = 6


def outcome_name(number: int) -> Text:
    """An outcome, coloured."""
    name = enum_name(pb.Outcome.DESCRIPTOR, number) if number else "-"
    return Text(name, _STYLES.get(number, ""))  # type: ignore[call-overload]


def state_name(number: int) -> Text:
    """A quota's state, coloured."""
    style = _STATE_STYLES.get(number, "red")  # type: ignore[call-overload]
    return Text(enum_name(pb.QuotaState.DESCRIPTOR, number), style)


def after(message: Any) -> str:
    """How long an acknowledgement took."""
    return times.shown_duration(message.acknowledged_after) if message.HasField("acknowledged_after") else "-"


def print_outcomes(outcomes: Iterable[pb.AgentOutcome], decimals: int) -> None:
    """Every agent's outcome."""
    rows: list[list[Cell]] = [
        [
            each.agent,
            outcome_name(each.outcome),
            after(each),
            shown(each.wanted_limit, decimals),
            shown(each.exposure, decimals),
        ]
        for each in outcomes
    ]
    columns = ("agent", "outcome", "after>", "wanted limit>", "may enforce>")
    print_table(columns, rows, "no agent has a part in it yet: see `quotactl agent assign`")


def print_quota(quota: pb.Quota) -> None:
    """Everything about a quota."""
    policy = enum_name(pb.Policy.DESCRIPTOR, quota.policy)
    facts: list[tuple[str, Cell]] = [
        ("quota", quota.name),
        ("uid", quota.uid or "-"),
        ("state", flags(quota)),
        ("target", shown(quota.target, quota.decimals)),
        ("decimals", str(quota.decimals)),
        ("period", period(quota)),
        ("policy", policy),
        ("reserve", f"{quota.reserve_percent} %"),
        ("critical", f"{quota.critical_percent} %" if quota.critical_percent else "never"),
        ("overrides", enum_name(pb.OverridePolicy.DESCRIPTOR, quota.override_policy)),
        (
            "max offline",
            times.shown_duration(quota.max_offline) if quota.HasField("max_offline") else "unbounded",
        ),
        ("etag", quota.etag),
        ("created", times.shown(quota.create_time)),
    ]
    print_facts(facts)


def print_quotas(quotas: Iterable[pb.Quota], *, with_uid: bool) -> None:
    """One line per quota."""
    columns = ["quota", "target>", "state", "policy", "period", *(["uid"] if with_uid else [])]
    rows: list[list[Cell]] = [
        [
            quota.name,
            shown(quota.target, quota.decimals),
            flags(quota),
            enum_name(pb.Policy.DESCRIPTOR, quota.policy),
            period(quota),
            *([quota.uid] if with_uid else []),
        ]
        for quota in quotas
    ]
    print_table(columns, rows, "no quotas yet: `quotactl quota create NAME --target N`")


def flags(quota: pb.Quota | pb.Count, whole: pb.Quota | None = None) -> Text:
    """State, and what is out of the ordinary; `whole` knows a count's period."""
    text = state_name(quota.state)
    known = quota if isinstance(quota, pb.Quota) else whole
    if known is not None and quota.state != pb.QUOTA_STATE_CLOSED:
        text.append(_in_period(known), "yellow")
    if quota.overcommitted:
        text.append(" overcommitted", "yellow")
    if quota.recovering:
        text.append(" recovering", "bold red")
    if isinstance(quota, pb.Count) and quota.exhausted:
        text.append(" exhausted", "bold red")
    elif isinstance(quota, pb.Count) and quota.critical:
        text.append(" critical", "yellow")
    return text


def _in_period(quota: pb.Quota) -> str:
    now = time.time()
    if quota.HasField("end_time") and quota.end_time.seconds + quota.end_time.nanos / 1e9 <= now:
        return " ended"
    if quota.HasField("start_time") and quota.start_time.seconds + quota.start_time.nanos / 1e9 > now:
        return " not begun"
    return ""


def period(quota: pb.Quota) -> str:
    """From when to when it is open; the end is not part of it."""
    if not quota.HasField("start_time") and not quota.HasField("end_time"):
        return "unbounded"
    begin = times.shown(quota.start_time) if quota.HasField("start_time") else "ever"
    end = times.shown(quota.end_time) if quota.HasField("end_time") else "ever"
    return f"{begin} until {end}"


def count_facts(
    count: pb.Count, quota: pb.Quota | None = None, agents: Iterable[pb.AgentCount] = ()
) -> list[tuple[str, Cell]]:
    """The numbers of a quota by name; with its agents' numbers also what is charged for them."""

    def units(number: int) -> str:
        return shown(number, count.decimals)

    used = count.count + count.held
    percent = f" ({used * 100 // count.target} %)" if count.target else ""
    bound = units(count.upper_bound) if count.HasField("upper_bound") else "unknown while recovering"
    age = "not all have reported"
    if count.HasField("oldest_report_age"):
        age = times.shown_duration(count.oldest_report_age)
    facts: list[tuple[str, Cell]] = [
        ("quota", count.quota),
        ("state", flags(count, quota)),
        ("target", units(count.target)),
        ("count", f"{units(count.count)}{percent}"),
        ("held", units(count.held)),
        ("overridden", units(count.overridden)),
        ("upper bound", bound),
        ("escrowed", units(count.escrowed)),
    ]
    charged = sum(each.charge for each in agents)
    if charged:
        facts.append(("charged", f"{units(charged)}, part of the count"))
    if count.at_risk:
        facts.append(("at risk", Text(units(count.at_risk), "yellow")))
    if count.overage:
        facts.append(("overage", Text(units(count.overage), "bold red")))
    facts.append(("agents", f"{count.agents}, {count.connected_agents} connected"))
    facts.append(("oldest report", age if count.agents else "-"))
    return facts


def print_agent_counts(agents: Iterable[pb.AgentCount], decimals: int, *, asked: bool) -> None:
    """One line per (agent, epoch)."""
    columns = ["agent", "epoch>", "link", "count>", "held>", "overridden>", "wanted limit>", "may enforce>"]
    columns += ["charge>", "at risk>", "last report"]
    rows = []
    for each in agents:
        numbers = (each.count, each.held, each.overridden, each.wanted_limit, each.exposure)
        row: list[Cell] = [each.agent, str(each.epoch), Text("up", "green") if each.connected else "-"]
        row += [shown(number, decimals) for number in (*numbers, each.charge, each.at_risk)]
        row.append(times.shown(each.report_time) if each.HasField("report_time") else "never")
        rows.append([*row, outcome_name(each.outcome), after(each)] if asked else row)
    print_table([*columns, *(["asked", "after>"] if asked else [])], rows, "no agent has a part in it")


def print_history(entries: Iterable[pb.HistoryEntry], decimals: int) -> None:
    """One line per change."""
    rows: list[list[Cell]] = [
        [
            str(entry.number),
            times.shown(entry.time),
            entry.actor,
            entry.action,
            _change(entry, decimals),
            _reached(entry),
            entry.reason,
        ]
        for entry in entries
    ]
    print_table(("#>", "when", "who", "what", "change~", "reached", "why~"), rows, "nothing yet")


def _change(entry: pb.HistoryEntry, decimals: int) -> str:
    before, now = json.loads(entry.before_json), json.loads(entry.after_json)
    old, new = before.pop("limits", {}), now.pop("limits", {})
    parts = []
    for name in [*now, *(name for name in before if name not in now)]:
        value = _value(name, now.get(name), decimals)
        parts.append(
            f"{name} {_value(name, before[name], decimals)} → {value}"
            if name in before
            else f"{name} {value}"
        )
    names = sorted(old.keys() | new.keys())
    for name in names[:_LIMITS_SHOWN]:
        values = [shown(limits[name], decimals) if name in limits else "-" for limits in (old, new)]
        parts.append(f"{name}: {values[0]} → {values[1]}")
    if len(names) > _LIMITS_SHOWN:
        parts.append(f"and {len(names) - _LIMITS_SHOWN} more limits")
    return ", ".join(parts)


def _value(name: str, value: Any, decimals: int) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and name in _AMOUNTS:
        return shown(value, decimals)
    return "-" if value is None else str(value)


def _reached(entry: pb.HistoryEntry) -> str:
    numbers = Counter(enum_name(pb.Outcome.DESCRIPTOR, each.outcome) for each in entry.reached)
    return ", ".join(f"{number} {name}" for name, number in sorted(numbers.items())) or "-"


def print_change(
    what: str, outcomes: Iterable[pb.AgentOutcome], decimals: int, *, dry_run: bool = False
) -> None:
    """What was changed, and what became of it on every agent."""
    say(f"{what} (nothing was changed: --dry-run)" if dry_run else what, "green")
    if not dry_run:
        print_outcomes(outcomes, decimals)
