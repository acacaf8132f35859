"""Options and arguments of `quotactl rules`."""

from __future__ import annotations

import enum
import re
from typing import Annotated, Final

import typer

from quota_server.cli import times
from quota_server.cli.rules_files import opened
from quota_server.cli.rules_json import read_data
from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import tariff_records_pb2 as records_pb

NO_DATA: Final = "none"
_MECHANISMS: Final = {
    "licensed": records_pb.MECHANISM_LICENSED,
    "fcfs": records_pb.MECHANISM_FIRST_COME_FIRST_SERVED,
}
_mechanism: Final = re.compile(r"([0-9]{6})=(licensed|fcfs)", re.IGNORECASE).fullmatch
_FILE_HELP: Final = (
    "A TARIC3 envelope, or JSON with a list of changes (its own or as `transaction`), gzipped or not; "
    "- is standard input."
)


class ProfileName(enum.StrEnum):
    """Whose rules are asked."""

    UK = "uk"
    EU = "eu"

    @property
    def number(self) -> pb.RuleProfile.ValueType:
        """As the proto has it."""
        return pb.RuleProfile.Value(f"RULE_PROFILE_{self.name}")


FilesArgument = Annotated[list[str], typer.Argument(metavar="FILE", help=_FILE_HELP)]
FileArgument = Annotated[str, typer.Argument(metavar="FILE", help=_FILE_HELP)]
TodayOption = Annotated[
    str | None,
    typer.Option(
        "--today", metavar="DATE", help="The day that tells past from future; default today in UTC."
    ),
]
ProfileOption = Annotated[
    ProfileName, typer.Option("--profile", help="Every rule, or without those that only the UK has.")
]
MechanismOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mechanism",
        metavar="NUMBER=licensed|fcfs",
        help="How an order number of an envelope is administered; repeat for several. Others: as stored; new ones "
        "licensed if their third digit is 4.",
    ),
]
AgainstOption = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="FILE|none",
        help="Judge on this data (a TARIC3 envelope or a JSON list of records, 4 MiB at most), not on what is stored; "
        "none: on no data.",
    ),
]
NewOnlyOption = Annotated[
    bool,
    typer.Option(
        "--hide-preexisting",
        metavar="",
        help="Leave out what was wrong before; only what is new makes the exit code 1.",
    ),
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Show at most so many.")]


def judge_options(
    today: str | None, profile: ProfileName, mechanisms: list[str] | None, against: str | None = None
) -> pb.JudgeOptions:
    """How to judge. Raises InputError if the data to judge against cannot be read."""
    options = pb.JudgeOptions(
        today=times.today() if today is None else times.day(today, "--today"), profile=profile.number
    )
    for each in mechanisms or ():
        parts = _mechanism(each)
        if parts is None:
            raise typer.BadParameter(
                f"{each!r} is not of the form 054001=licensed or 054001=fcfs", param_hint="--mechanism"
            )
        options.mechanisms[parts[1]] = _MECHANISMS[parts[2].lower()]
    if against == NO_DATA:
        options.data.SetInParent()
    elif against is not None:
        with opened(against) as source:
            options.data.CopyFrom(read_data(source))
    return options
