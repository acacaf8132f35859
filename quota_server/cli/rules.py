"""`quotactl rules`: tariff quota data, and the rules for changing it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer

from quota_server.cli import exits, rules_keys, rules_views, times
from quota_server.cli import options as o
from quota_server.cli import rules_options as ro
from quota_server.cli.output import print_json, say
from quota_server.cli.rules_files import STDIN, Form, InputError, opened
from quota_server.cli.rules_json import read_transaction
from quota_server.cli.rules_judging import Content, Judgement, Wish, commit_content, judge
from quota_server.cli.session import Session
from quotafleet.v1 import rules_service_pb2 as pb

app = typer.Typer(help="Tariff quota data, and the rules for changing it.", no_args_is_help=True)

_PAGE: Final = 1_000
#: Codes of the tariff's rules that are checked before any rule is asked.
_MALFORMED: Final = ("ON3", "QD2")
_DATA_CHANGED: Final = "DATA_CHANGED"

_version: Final = re.compile(r"[0-9]{1,18}").fullmatch

KindArgument = Annotated[
    str, typer.Argument(metavar="KIND", help="Kind of the record, as in quota_definition.")
]


@app.command()
def validate(
    context: typer.Context,
    files: ro.FilesArgument,
    today: ro.TodayOption = None,
    profile: ro.ProfileOption = ro.ProfileName.UK,
    against: ro.AgainstOption = None,
    mechanism: ro.MechanismOption = None,
    hide_preexisting: ro.NewOnlyOption = False,
    limit: ro.LimitOption = 1_000,
    as_json: o.JsonOption = False,
) -> None:
    """Say everything that is wrong with changes; nothing is stored.

    Each file is judged on the stored data, on its own. To rehearse a series, commit it file by file elsewhere.

    Exit codes, the worst of all files: 0 nothing is wrong, 1 rules are broken, 2 malformed or unreadable.

    With --json one object a file, each on a line.
    """
    session = Session(context, as_json)
    if files.count(STDIN) > 1:
        raise typer.BadParameter("- can be given once", param_hint="FILE")
    said = [name for name, value in (("--today", today), ("--against", against)) if value is not None]
    with _or_bad_usage(session):
        wish = Wish(ro.judge_options(today, profile, mechanism, against), limit, hide_preexisting)
    code = 0
    for path in files:
        try:
            with opened(path) as source:
                content = read_transaction(source, said) if source.form is Form.JSON else source
                judged = judge(session, content, wish)
        except InputError as error:
            exits.tell(str(error), error.hint, as_json=session.as_json, file=path)
            code = exits.BAD_USAGE
            continue
        _print(session, judged, wish)
        code = max(code, judged.code(only_new=hide_preexisting))
    raise typer.Exit(code)


@app.command()
def commit(
    context: typer.Context,
    file: ro.FileArgument,
    expected_version: Annotated[
        int | None,
        typer.Option("--expected-version", min=0, help="Refuse unless the data is at this version."),
    ] = None,
    allow_preexisting: Annotated[
        bool,
        typer.Option(
            "--allow-preexisting",
            metavar="",
            help="Store it although records broke rules before and still do.",
        ),
    ] = False,
    reason: o.ReasonOption = "",
    today: ro.TodayOption = None,
    profile: ro.ProfileOption = ro.ProfileName.UK,
    mechanism: ro.MechanismOption = None,
    limit: ro.LimitOption = 1_000,
    as_json: o.JsonOption = False,
) -> None:
    """Store changes if nothing is wrong with them: all of a file, or nothing.

    It is validated first: what is wrong is shown, with the exit codes of `validate`, and nothing is stored.

    It is stored only if the data is still at the version that it was judged on.
    """
    session = Session(context, as_json)
    said = [] if today is None else ["--today"]
    with _or_bad_usage(session):
        wish = Wish(ro.judge_options(today, profile, mechanism), limit, allow_preexisting)
        with opened(file) as source:
            content = read_transaction(source, said) if source.form is Form.JSON else source
            judged = judge(session, content, wish)
            _check_version(session, judged, expected_version)
            if code := judged.code(only_new=allow_preexisting):
                _print(session, judged, wish)
                if not session.as_json:
                    say("nothing was stored", "bold red")
                raise typer.Exit(code)
            stored = _commit(session, content, wish, judged, allow_preexisting, reason)
    if session.as_json:
        print_json(stored)
        return
    at = f"the data is at version {stored.data_version}"
    if stored.summary.changes:
        say(f"stored: {rules_views.counted(stored.summary)}; {at}", "green")
    else:
        say(f"there was nothing to store; {at}", "yellow")
    rules_views.say_skipped(stored.summary)
    if stored.summary.preexisting:
        say(f"violations from before that are still there: {stored.summary.preexisting}", "yellow")


def _commit(
    session: Session, content: Content, wish: Wish, judged: Judgement, allow_preexisting: bool, reason: str
) -> pb.CommitTransactionResponse | pb.CommitEnvelopeResponse:
    allowed = pb.CommitOptions(
        expected_data_version=judged.answer.data_version, allow_preexisting=allow_preexisting, reason=reason
    )
    return commit_content(session, content, wish.options, allowed)


def _check_version(session: Session, judged: Judgement, expected: int | None) -> None:
    """Before a verdict on other data than was meant is shown."""
    version = judged.answer.data_version
    if expected is None or not judged.answer.HasField("data_version") or version == expected:
        return
    exits.fail(
        f"{_DATA_CHANGED}: the data is at version {version}, not {expected}",
        f"nothing was stored: look at `quotactl rules validate {judged.name}`, then name version {version}",
        exits.REFUSED,
        as_json=session.as_json,
        reason=_DATA_CHANGED,
        metadata={"expected_data_version": str(expected), "data_version": str(version)},
    )


@contextmanager
def _or_bad_usage(session: Session) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        exits.fail(str(error), error.hint, exits.BAD_USAGE, as_json=session.as_json)


def _print(session: Session, judged: Judgement, wish: Wish) -> None:
    if session.as_json:
        typer.echo(json.dumps(rules_views.judgement_json(judged, wish)))
    else:
        rules_views.print_judgement(judged, wish)


# --- rules -----------------------------------------------------------------------------------------------------------


@app.command("list")
def list_(
    context: typer.Context,
    profile: ro.ProfileOption = ro.ProfileName.UK,
    as_json: o.JsonOption = False,
) -> None:
    """List the rules by code."""
    session = Session(context, as_json)
    found = _rules(session, profile)
    if session.as_json:
        print_json(found)
    else:
        rules_views.print_rules(found.rules)


@app.command()
def explain(
    context: typer.Context,
    code: Annotated[str, typer.Argument(metavar="CODE", help="Code of the rule, as in ON2.")],
    as_json: o.JsonOption = False,
) -> None:
    """Show everything about a rule."""
    session = Session(context, as_json)
    rules = {rule.code: rule for rule in _rules(session, ro.ProfileName.UK).rules}
    by_name = {name.lower(): name for name in rules}
    name = by_name.get(code.lower())
    if name is None:
        close = [by_name[each] for each in difflib.get_close_matches(code.lower(), by_name, n=3, cutoff=0.5)]
        hint = f"did you mean {' or '.join(close)}?" if close else "`quotactl rules list` shows all"
        if code.upper() in _MALFORMED:
            hint = "it is not asked like a rule: a period that ends before it starts is malformed, and refused first"
        exits.fail(f"no rule has the code {code!r}", hint, exits.BAD_USAGE, as_json=session.as_json)
    if session.as_json:
        print_json(rules[name])
    else:
        rules_views.print_rule(rules[name])


def _rules(session: Session, profile: ro.ProfileName) -> pb.ListRulesResponse:
    found = pb.ListRulesResponse()
    wish = pb.ListRulesRequest(profile=profile.number, page_size=_PAGE)
    for page in session.pages(session.rules.ListRules, wish):
        found.rules.extend(page.rules)
    return found


# --- records ---------------------------------------------------------------------------------------------------------


@app.command()
def show(
    context: typer.Context,
    kind: KindArgument,
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="Its sid or code; MAIN/SUB, GROUP/MEMBER, ORIGIN/EXCLUDED_AREA; of an event CODE/DEFINITION/TIME.",
        ),
    ],
    as_of: Annotated[
        int | None, typer.Option("--as-of", min=0, metavar="VERSION", help="As it was at this data version.")
    ] = None,
    as_json: o.JsonOption = False,
) -> None:
    """Show a record."""
    session = Session(context, as_json)
    number = rules_keys.kind(kind, "KIND")
    request = pb.GetRecordRequest(key=rules_keys.key(number, key), as_of_version=as_of)
    answer = session.call(session.rules.GetRecord, request)
    if session.as_json:
        print_json(answer)
    else:
        rules_views.print_version(answer.version)


@app.command()
def records(
    context: typer.Context,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only of this kind, as in quota_definition.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="VERSION|DATE",
            help="As at this data version, or at the end of this day (UTC).",
        ),
    ] = None,
    valid_on: Annotated[
        str | None,
        typer.Option("--valid-on", metavar="DATE", help="Only those whose own period includes this day."),
    ] = None,
    deleted: Annotated[bool, typer.Option("--deleted", metavar="", help="Deleted ones too.")] = False,
    as_json: o.JsonOption = False,
) -> None:
    """List records by kind and key, one a line as they come; with --json one object a line."""
    session = Session(context, as_json)
    request = pb.ListRecordsRequest(include_deleted=deleted, page_size=_PAGE)
    if kind is not None:
        request.kind = rules_keys.kind(kind, "--kind")
    if valid_on is not None:
        request.valid_on.CopyFrom(times.day(valid_on, "--valid-on"))
    if as_of is not None and _version(as_of):
        request.as_of_version = int(as_of)
    elif as_of is not None:
        request.as_of_date.CopyFrom(times.day(as_of, "--as-of"))
    number = data_version = 0
    for page in session.pages(session.rules.ListRecords, request):
        for version in page.versions:
            if session.as_json:
                print_json(version)
            else:
                rules_views.print_line(version)
        number += len(page.versions)
        data_version = page.data_version
    if not session.as_json:
        say(f"{rules_views.number_of(number, 'record')}, as of data version {data_version}", "dim")
