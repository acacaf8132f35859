"""`quotactl quota`: what changes quotas."""

from __future__ import annotations

from typing import Annotated

import typer

from quota_server.cli import amounts, views
from quota_server.cli import options as o
from quota_server.cli.output import print_json, say
from quota_server.cli.session import Session
from quotafleet.v1 import quota_service_pb2 as pb


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("set-target")(set_target)
    app.command("set-agent-target")(set_agent_target)
    app.command()(update)
    app.command()(rebalance)
    app.command()(suspend)
    app.command()(resume)
    app.command()(close)


def update(
    context: typer.Context,
    quota: o.QuotaArgument,
    start: o.StartOption = None,
    end: o.EndOption = None,
    time_zone: o.ZoneOption = None,
    policy: o.PolicyOption = None,
    reserve: o.ReserveOption = None,
    critical: o.CriticalOption = None,
    override_policy: o.OverridePolicyOption = None,
    max_offline: o.MaxOfflineOption = None,
    reason: o.ReasonOption = "",
    etag: o.EtagOption = "",
    wait: o.WaitOption = None,
    dry_run: o.DryRunOption = False,
    as_json: o.JsonOption = False,
) -> None:
    """Change settings; "none" as --start, --end or --max-offline takes that bound away.

    Dates are inclusive, as in `create`. Changing the period frees nothing.
    """
    session = Session(context, as_json)
    changed = pb.Quota(name=quota, etag=etag)
    paths = o.fill_settings(
        changed,
        start=start,
        end=end,
        time_zone=time_zone,
        policy=policy,
        reserve=reserve,
        critical=critical,
        override_policy=override_policy,
        max_offline=max_offline,
    )
    if not paths:
        raise typer.BadParameter("there is nothing to change: name at least one setting")
    request = pb.UpdateQuotaRequest(quota=changed, reason=reason, validate_only=dry_run)
    request.update_mask.paths.extend(paths)
    answer = session.call(session.quotas.UpdateQuota, request, o.wait_of(wait))
    if session.as_json:
        print_json(answer)
        return
    views.print_quota(answer.quota)
    what = f"quota {answer.quota.name!r} {'could be' if dry_run else 'is'} changed"
    views.print_change(what, answer.outcomes, answer.quota.decimals, dry_run=dry_run)


def set_target(
    context: typer.Context,
    quota: o.QuotaArgument,
    target: o.AmountArgument,
    reason: o.ReasonOption = "",
    etag: o.EtagOption = "",
    wait: o.WaitOption = None,
    dry_run: o.DryRunOption = False,
    as_json: o.JsonOption = False,
) -> None:
    """Change the overall cap, and tell all connected agents at once."""
    session = Session(context, as_json)
    known = session.quota(quota)
    units = amounts.parse(target, known.decimals, "AMOUNT")
    request = pb.SetTargetRequest(
        quota=known.uid, target=units, reason=reason, etag=etag, validate_only=dry_run
    )
    answer = session.call(session.quotas.SetTarget, request, o.wait_of(wait))
    if session.as_json:
        print_json(answer)
        return
    decimals = answer.quota.decimals
    old, new = amounts.shown(known.target, decimals), amounts.shown(answer.quota.target, decimals)
    what = f"target of {answer.quota.name!r}: {old} → {new}"
    views.print_change(what, answer.outcomes, decimals, dry_run=dry_run)
    if answer.quota.overcommitted:
        what = (
            "agents may enforce more than the target until they acknowledge, or release what they have used"
        )
        say(f"overcommitted: {what}", "yellow")


def set_agent_target(
    context: typer.Context,
    quota: o.QuotaArgument,
    agent: o.AgentArgument,
    target: o.AmountArgument,
    reason: o.ReasonOption = "",
    wait: o.WaitOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Fix one agent's limit. To free it again: `quotactl agent assign AGENT QUOTA --min 0 --max none`."""
    session = Session(context, as_json)
    known = session.quota(quota)
    units = amounts.parse(target, known.decimals, "AMOUNT")
    request = pb.SetAgentTargetRequest(quota=known.uid, agent=agent, target=units, reason=reason)
    answer = session.call(session.quotas.SetAgentTarget, request, o.wait_of(wait))
    if session.as_json:
        print_json(answer)
        return
    what = f"limit of {agent!r} in {known.name!r} is fixed at {amounts.shown(units, known.decimals)}"
    views.print_change(what, answer.outcomes, known.decimals)


def rebalance(
    context: typer.Context,
    quota: o.QuotaArgument,
    reason: o.ReasonOption = "",
    wait: o.WaitOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Share out again by the policy and today's counts."""
    session = Session(context, as_json)
    known = session.quota(quota)
    request = pb.RebalanceRequest(quota=known.uid, reason=reason)
    answer = session.call(session.quotas.Rebalance, request, o.wait_of(wait))
    if session.as_json:
        print_json(answer)
        return
    views.print_change(f"quota {known.name!r} is shared out again", answer.outcomes, known.decimals)


def suspend(
    context: typer.Context,
    quota: o.QuotaArgument,
    reason: o.ReasonOption = "",
    wait: o.WaitOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Let agents refuse with QUOTA_SUSPENDED until it is resumed."""
    _set_state(Session(context, as_json), quota, pb.QUOTA_STATE_SUSPENDED, reason, wait)


def resume(
    context: typer.Context,
    quota: o.QuotaArgument,
    reason: o.ReasonOption = "",
    wait: o.WaitOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Let agents grant again."""
    _set_state(Session(context, as_json), quota, pb.QUOTA_STATE_OPEN, reason, wait)


def close(
    context: typer.Context,
    quota: Annotated[str, typer.Argument(metavar="QUOTA", help="Name of the quota.")],
    reason: o.ReasonOption = "",
    as_json: o.JsonOption = False,
) -> None:
    """End a quota for good. Its agents refuse from the moment they hear of it; its name is free again."""
    session = Session(context, as_json)
    answer = session.call(session.quotas.CloseQuota, pb.CloseQuotaRequest(quota=quota, reason=reason))
    if session.as_json:
        print_json(answer)
        return
    say(f"quota {answer.quota.name!r} is closed; it can still be read by its uid {answer.quota.uid}", "green")


def _set_state(
    session: Session, quota: str, state: pb.QuotaState.ValueType, reason: str, wait: str | None
) -> None:
    request = pb.UpdateQuotaRequest(quota=pb.Quota(name=quota, state=state), reason=reason)
    request.update_mask.paths.append("state")
    answer = session.call(session.quotas.UpdateQuota, request, o.wait_of(wait))
    if session.as_json:
        print_json(answer)
        return
    name = "suspended" if state == pb.QUOTA_STATE_SUSPENDED else "open"
    views.print_change(f"quota {answer.quota.name!r} is {name}", answer.outcomes, answer.quota.decimals)
