"""A controller is killed during commits of tariff data: each is stored as a whole or not at all, each answer holds."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import grpc

from quotafleet.v1 import rules_service_pb2 as pb
from quotafleet.v1 import rules_service_pb2_grpc as rules_grpc
from tests.pair_kit import ControllerProcess
from tests.server_kit import until
from tests.tariff_kit import OPTIONS, envelope, many, message

KILLS = 8
#: Some commits take one statement, some many.
SIZES = (1, 3, 40, 1_100)


class Committer:
    """Commits for ever, one transaction after the other; what was not answered is sent again under its id."""

    def __init__(self, name: int, rules: rules_grpc.RulesServiceAsyncStub, chance: random.Random) -> None:
        self._rules = rules
        self._chance = chance
        self._name = name
        #: Sids by commit: one list for every transaction.
        self.sent: list[list[range]] = []
        self.answered: dict[int, int] = {}

    async def run(self) -> None:
        first = self._name * 1_000_000
        for number in itertools.count():
            sizes = [
                self._chance.choices(SIZES, (8, 8, 8, 1))[0] for _ in range(self._chance.choice((1, 1, 1, 3)))
            ]
            begins = [first + sum(sizes[:index]) for index in range(len(sizes))]
            first += sum(sizes)
            self.sent.append([range(begin, begin + size) for begin, size in zip(begins, sizes, strict=True)])
            while number not in self.answered:
                with suppress(grpc.aio.AioRpcError):  # it is being killed
                    self.answered[number] = await self._commit(number)

    async def _commit(self, number: int) -> int:
        transactions = [many(sids[0], len(sids)) for sids in self.sent[number]]
        request_id = f"{self._name}-{number}"
        if len(transactions) == 1:
            request = pb.CommitTransactionRequest(
                request_id=request_id, transaction=message(transactions[0]), options=OPTIONS
            )
            answer = await self._rules.CommitTransaction(request, wait_for_ready=True)
            return answer.data_version
        content = envelope(*transactions)

        def parts() -> Iterator[pb.CommitEnvelopeRequest]:
            yield pb.CommitEnvelopeRequest(
                options=pb.CommitEnvelopeOptions(request_id=request_id, options=OPTIONS)
            )
            for begin in range(0, len(content), 100_000):
                yield pb.CommitEnvelopeRequest(chunk=content[begin : begin + 100_000])

        return (await self._rules.CommitEnvelope(parts(), wait_for_ready=True)).data_version


async def versions_by_sid(rules: rules_grpc.RulesServiceAsyncStub) -> dict[int, int]:
    """The transaction that stored each area."""
    found: dict[int, int] = {}
    token = ""
    while True:
        request = pb.ListRecordsRequest(page_size=1_000, page_token=token)
        answer = await rules.ListRecords(request, wait_for_ready=True)
        found.update({each.record.geographical_area.sid: each.data_version for each in answer.versions})
        token = answer.next_page_token
        if not token:
            return found


def check(found: dict[int, int], committers: Iterable[Committer]) -> None:
    """Every commit is there as a whole or not at all; every answered one is, under the version it was told."""
    for committer in committers:
        for number, transactions in enumerate(committer.sent):
            stored = [{found.get(sid) for sid in sids} for sids in transactions]
            assert all(len(versions) == 1 for versions in stored), (number, stored)
            numbers = [versions.pop() for versions in stored]
            if number in committer.answered:
                last = committer.answered[number]
                assert numbers == list(range(last - len(numbers) + 1, last + 1))
            else:
                assert all(each is None for each in numbers) or None not in numbers
    assert sorted(set(found.values())) == list(range(1, len(set(found.values())) + 1))


def have_answers(committers: Iterable[Committer], enough: int) -> bool:
    return sum(len(committer.answered) for committer in committers) >= enough


async def test_a_controller_killed_during_commits_keeps_each_as_a_whole_or_not_at_all(
    tmp_path: Path,
) -> None:
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    chance = random.Random(seed)
    controller = ControllerProcess(tmp_path / "controller")
    await controller.start()
    async with grpc.aio.insecure_channel(controller.address) as channel:
        rules = rules_grpc.RulesServiceStub(channel)
        committers = [Committer(name, rules, chance) for name in (1, 2, 3)]
        tasks = [asyncio.create_task(committer.run()) for committer in committers]
        try:
            for _ in range(KILLS):
                before = sum(len(committer.answered) for committer in committers)
                enough = before + chance.randrange(1, 12)
                await until(partial(have_answers, committers, enough), "commits are answered", 60)
                # Somewhere in the middle of what comes next.
                await asyncio.sleep(chance.random() * 0.05)
                await controller.kill()
                await controller.start()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            check(await versions_by_sid(rules), committers)
            assert all(committer.answered for committer in committers)
            # And what is in memory is what is stored: everything is there already, and refused.
            for committer in committers:
                sids = committer.sent[0][0]
                request = pb.ValidateTransactionRequest(
                    transaction=message(many(sids[0], 1)), options=OPTIONS
                )
                answer = await rules.ValidateTransaction(request, wait_for_ready=True)
                assert answer.summary.violations == 1
        finally:
            await controller.kill()
