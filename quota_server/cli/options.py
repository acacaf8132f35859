"""Options and arguments that several commands share."""

from __future__ import annotations

import enum
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from quota_server.cli import times
from quota_server.cli.amounts import AMOUNT_HELP
from quotafleet.v1 import agent_admin_service_pb2 as agents_pb
from quotafleet.v1 import quota_service_pb2 as pb


class PolicyName(enum.StrEnum):
    """How a quota is shared out."""

    EQUAL = "equal"
    WEIGHTED = "weighted"
    PROPORTIONAL = "proportional"
    MAX_MIN = "max-min"
    STATIC = "static"

    @property
    def number(self) -> pb.Policy.ValueType:
        """As the proto has it."""
        return pb.Policy.Value(f"POLICY_{self.name}")


class OverridePolicyName(enum.StrEnum):
    """What answers an agent that asks to go beyond its limit."""

    DENY = "deny"
    FROM_RESERVE = "from-reserve"
    ASK = "ask"

    @property
    def number(self) -> pb.OverridePolicy.ValueType:
        """As the proto has it."""
        return pb.OverridePolicy.Value(f"OVERRIDE_POLICY_{self.name}")


class AssumeName(enum.StrEnum):
    """What an agent that ends is charged."""

    SPENT_LIMIT = "spent-limit"
    LAST_REPORTED = "last-reported"

    @property
    def number(self) -> agents_pb.Assume.ValueType:
        """As the proto has it."""
        return agents_pb.Assume.Value(f"ASSUME_{self.name}")


JsonOption = Annotated[
    bool, typer.Option("--json", metavar="", help="Answer with protobuf JSON on one line.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the history.")]
WaitOption = Annotated[
    str | None,
    typer.Option(
        "--wait",
        metavar="TIME",
        help="How long to wait for agents, as in 500ms or 10s; at most 60s; default 5s.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", metavar="", help="Check everything, change nothing.")
]
EtagOption = Annotated[
    str, typer.Option("--etag", help="Refuse if the quota has changed since `get` showed this etag.")
]
QuotaArgument = Annotated[str, typer.Argument(metavar="QUOTA", help="Name or uid of the quota.")]
AgentArgument = Annotated[str, typer.Argument(metavar="AGENT", help="Name or uid of the agent.")]
AmountArgument = Annotated[str, typer.Argument(metavar="AMOUNT", help=AMOUNT_HELP)]
StartOption = Annotated[
    str | None,
    typer.Option(
        "--start",
        metavar="DATE|TIME",
        help="First date of the period (2026-01-01) or RFC 3339 time (2026-01-01T00:00:00Z).",
    ),
]
EndOption = Annotated[
    str | None,
    typer.Option(
        "--end",
        metavar="DATE|TIME",
        help="Last date of the period, itself included, or RFC 3339 time from which on it is over.",
    ),
]
ZoneOption = Annotated[
    str | None,
    typer.Option(
        "--time-zone", metavar="ZONE", help="Where the dates are, as in Europe/London; default UTC."
    ),
]
ReserveOption = Annotated[
    int | None,
    typer.Option("--reserve", min=0, max=100, help="Percent of the target kept back from sharing out."),
]
CriticalOption = Annotated[
    int | None,
    typer.Option(
        "--critical", min=0, max=100, help="Percent of the target from which it counts as critical; 0: never."
    ),
]
PolicyOption = Annotated[PolicyName | None, typer.Option("--policy", help="How it is shared out.")]
OverridePolicyOption = Annotated[
    OverridePolicyName | None,
    typer.Option("--override-policy", help="What answers agents that ask to go beyond their limit."),
]
MaxOfflineOption = Annotated[
    str | None,
    typer.Option(
        "--max-offline", metavar="TIME", help="Agents refuse this long after their last contact, as in 36h."
    ),
]
AssumeOption = Annotated[
    AssumeName,
    typer.Option(
        "--assume",
        help="What it is charged until its store turns up: all that it could have spent (safe), or what it last "
        "reported (others may get the difference; needs --confirm).",
    ),
]
ConfirmOption = Annotated[
    bool, typer.Option("--confirm", metavar="", help="Take the risk of --assume last-reported knowingly.")
]


def fill_settings(
    quota: pb.Quota,
    *,
    start: str | None,
    end: str | None,
    time_zone: str | None,
    policy: PolicyName | None,
    reserve: int | None,
    critical: int | None,
    override_policy: OverridePolicyName | None,
    max_offline: str | None,
) -> list[str]:
    """Puts the settings that are given into a quota; the names of their fields. "none" leaves a field unset."""
    zone = times.zone(time_zone or "UTC")
    if time_zone is not None and {start, end} <= {None, times.NONE}:
        raise typer.BadParameter("says where dates are: give --start or --end too", param_hint="--time-zone")
    paths = []
    if start is not None:
        paths.append("start_time")
        if start != times.NONE:
            quota.start_time.CopyFrom(times.start(start, zone))
    if end is not None:
        paths.append("end_time")
        if end != times.NONE:
            quota.end_time.CopyFrom(times.end(end, zone))
    if policy is not None:
        paths.append("policy")
        quota.policy = policy.number
    if reserve is not None:
        paths.append("reserve_percent")
        quota.reserve_percent = reserve
    if critical is not None:
        paths.append("critical_percent")
        quota.critical_percent = critical
    if override_policy is not None:
        paths.append("override_policy")
        quota.override_policy = override_policy.number
    if max_offline is not None:
        paths.append("max_offline")
        if max_offline != times.NONE:
            quota.max_offline.CopyFrom(times.duration(max_offline, "--max-offline"))
    return paths


def wait_of(text: str | None) -> Duration | None:
    """`--wait` as a duration; None if it is not given."""
    return None if text is None else times.duration(text, "--wait")
