"""The ledger on SQLite, on PostgreSQL and on a page: whatever is done, the three agree after every step.

The two databases hold the same rows, all of them. The page (`small_ledger`) says what they add up to.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Final

from hypothesis import given, note, settings
from hypothesis import strategies as st

from quota_server.ledger.model import AgentKey
from tests.model.ledger_pair import Contents, Pair
from tests.model.ledger_steps import Steps

#: How often each step comes.
OFTEN: Final = {
    "spend": 16,
    "report": 18,
    "deliver": 12,
    "dial": 12,
    "follow": 6,
    "give_back": 3,
    "last_word": 6,
    "hang_up": 2,
    "copy": 2,
    "wait": 2,
    "create": 1,
    "set_target": 5,
    "update": 2,
    "set_agent_target": 2,
    "rebalance": 4,
    "close": 0.3,
    "enrol": 2,
    "assign": 4,
    "unassign": 1,
    "switch": 2,
    "settle": 2,
    "retire": 0.5,
    "request": 4,
    "ask": 2,
    "decide": 6,
    "use": 4,
    "recover": 0.7,
    "finish_recovery": 4,
}
STEPS: Final = 100


@settings(max_examples=9, deadline=None, print_blob=True)
@given(seed=st.integers(0, 2**64 - 1))
def test_both_databases_and_the_page_agree_after_every_step(seed: int) -> None:
    """The seed is the story: the same one goes the same way again, and ends with the step that fails."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder), Random(seed)))


async def run(folder: Path, chance: Random) -> None:
    async with AsyncExitStack() as stack:
        pair = await Pair.open(folder, stack)
        steps = Steps(pair)
        await steps.begin()
        before = escrowed_in(await pair.contents())
        for name in chance.choices(list(OFTEN), list(OFTEN.values()), k=STEPS):
            note(name)
            steps.was_fact = steps.was_asked = False
            await getattr(steps, name)(chance)
            if not steps.was_asked:
                continue
            contents = await pair.contents()
            check_quotas(steps, pair, contents, before)
            check_records(steps, contents)
            before = escrowed_in(contents)


def escrowed_in(contents: Contents) -> dict[str, int]:
    """E of every quota."""
    return {row["uid"]: row["sum_exposure"] + row["sum_charge"] for row in contents["quotas"]}


def check_quotas(steps: Steps, pair: Pair, contents: Contents, before: dict[str, int]) -> None:
    """The sums and the bounds. By a decision E does not rise above the target (S2)."""
    page = steps.page
    assert {row["uid"]: row["target"] for row in contents["quotas"]} == page.targets
    for row in contents["quotas"]:
        uid = row["uid"]
        sums = page.sums(uid)
        assert {name: row[f"sum_{name}"] for name in sums} == sums
        assert row["recovering"] == (uid in page.recovering)
        escrowed, bound = page.escrowed(uid), page.upper_bound(uid)
        assert steps.was_fact or escrowed <= max(page.targets[uid], before.get(uid, 0))
        # What copies have spent is known when they turn up.
        assert bound is None or steps.has_copies or true_total(steps, pair, uid) <= bound


def true_total(steps: Steps, pair: Pair, uid: str) -> int:
    """What the stores themselves have spent, those too that nobody listens to any more."""
    initial = sum(count for (quota_uid, _), count in steps.page.initial.items() if quota_uid == uid)
    parts = [site.parts[uid] for site in pair.first.sites.values() if uid in site.parts]
    return initial + sum(part.totals.count + part.totals.overridden for part in parts)


def check_records(steps: Steps, contents: Contents) -> None:
    for row in contents["allocations"]:
        part = steps.page.parts[row["quota_uid"], AgentKey(row["agent_uid"], row["epoch"])]
        assert (row["exposure"], row["offered"], row["held"]) == (part.exposure, part.limit, part.held)
        assert (row["settled"], row["charge"]) == (part.charge is not None, part.charge or 0)
        assert (row["at_risk"], row["copies"]) == (part.at_risk, part.copies)
        assert {name: row[f"totals_{name}"] for name in asdict(part.totals)} == asdict(part.totals)
    for row in contents["overrides"]:
        override = steps.page.overrides[row["override_id"]]
        assert (row["state"], row["spent"]) == (override.state, override.spent)
        assert (row["settled"], row["at_risk"]) == (override.settled, override.at_risk)
