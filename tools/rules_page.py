"""Writes docs/rules.md from the catalogue of rules. `--check` writes nothing, and fails if the page is out of date."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from rules.catalogue import RULES, Rule, When
from rules.engine import RULE_MODULES
from rules.forms import FORMS
from rules.records import KINDS

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "rules.md"

_INTRODUCTION: Final = """\
# The rules

Made by `make docs` from the rules themselves, in `rules/`.

A transaction is a list of changes, each with a whole record. It is judged as a whole, on the state after all of it. A
rule is asked about every record of its kind that was changed, and about every record that a change of another kind can
break: those are its triggers. What a transaction does not touch it is not blamed for. A violation is *preexisting* if
the same rule failed on the same record before the transaction.

- *UK*: only profile `uk` has it, profile `eu` leaves it out.
- *delete*: asked about the record that is deleted, as it was before. *update*: asked about a record that was live
  before and is live after.
- Periods include both ends. *Spans*: begins no later and ends no earlier; only an open period spans an open one.
- A rule that needs a record that does not exist is not asked; that the record exists is a rule of its own.

`quotactl rules explain CODE` tells about one of them.
"""

_MOMENTS: Final = {
    When.LIVE: "",
    When.LIVE_OR_DELETED: "also on delete",
    When.UPDATED: "update",
    When.DELETED: "delete",
    When.CHANGED: "any change",
}


def page() -> str:
    """The whole page."""
    lines = [_INTRODUCTION]
    for module in RULE_MODULES:
        here = [same for same in RULES.values() if same[0].check.__module__ == module.__name__]
        lines += [
            f"## {_title(module.__doc__)}",
            "",
            "| code | about | asked again by | text |",
            "|---|---|---|---|",
        ]
        lines += [_row(same) for same in here]
        lines.append("")
    lines += ["## Malformed records", "", *_malformed()]
    return "\n".join(lines) + "\n"


def _title(doc: str | None) -> str:
    assert doc is not None
    return doc.split(".")[0].removeprefix("Rules ").removeprefix("about ").capitalize()


def _row(same: list[Rule]) -> str:
    rule = same[0]
    about = "any record" if rule.about is None else _kinds(each.about for each in same if each.about)
    again = _kinds(trigger.kind for each in same for trigger in each.triggers if not trigger.only_deletion)
    deleted = _kinds(trigger.kind for each in same for trigger in each.triggers if trigger.only_deletion)
    triggers = "; ".join(filter(None, [again, deleted and f"deletion of {deleted}"]))
    notes = ", ".join(filter(None, [_MOMENTS[rule.when], "UK" if rule.only_uk else ""]))
    return f"| {rule.code} | {about}{f' ({notes})' if notes else ''} | {triggers} | {rule.text} |"


def _kinds(kinds: Iterable[type]) -> str:
    found = set(kinds)
    return ", ".join(kind.kind.replace("_", " ") for kind in KINDS if kind in found)


def _malformed() -> Iterator[str]:
    yield "A transaction with a malformed record is refused before any rule is asked. What fields must hold:"
    yield ""
    yield "| kind | field | must be |"
    yield "|---|---|---|"
    for kind in KINDS:
        for field, form in FORMS[kind].items():
            yield f"| {kind.kind} | {field} | {form.expected} |"
    yield ""
    yield "A definition has either a monetary or a measurement unit; a qualifier goes with a measurement unit."


def main() -> int:
    """Exit code 1 if the page is not what the rules say."""
    wanted = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted)
    elif not PAGE.exists() or PAGE.read_text() != wanted:
        print("docs/rules.md is out of date: run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
