"""What docs/postgres.md has an operator do is done to real servers: set up, put back to a moment, fail over."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from quotafleet.v1 import agent_admin_service_pb2 as admin_pb
from quotafleet.v1 import quota_service_pb2 as pb
from quotafleet.v1 import rules_service_pb2 as rules_pb
from tests.acceptance.test_readme import MARK, ROOT, open_shell
from tests.pair_kit import PairFleet
from tests.postgres_kit import PostgresServer, find_binaries
from tests.server_kit import until
from tests.site_kit import DATABASE, OWNER, SERVICE, Site, open_site_fleet
from tests.tariff_kit import BASE, OPTIONS, message


def environment(server: PostgresServer) -> dict[str, str]:
    """Of a superuser's shell, on the machine of the database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("QUOTA", "PG"))}
    path = f"{ROOT / '.venv' / 'bin'}:{find_binaries()}:{kept['PATH']}"
    login = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres"}
    return {**kept, **login, "PATH": path, "MARK": MARK, "COLUMNS": "160", "LC_ALL": "C.UTF-8"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with PostgresServer() as server, open_shell(ROOT, environment(server)) as shell:
        site = Site(server, folder, shell)
        site.prepare()
        server.configure(site.settings("Backup"))
        server.stop()
        server.start()
        site.play("Set-up")
        yield site


@pytest.fixture
async def fleet(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PairFleet]:
    monkeypatch.setenv("PGPASSFILE", str(site.folder / "pgpass"))
    async with open_site_fleet(site, tmp_path) as opened:
        yield opened


# --- set up ----------------------------------------------------------------------------------------------------------


def test_the_roles_can_be_made_again_while_they_are_in_use(site: Site) -> None:
    setting_up, _ = site.blocks("Set-up", "sh")
    code, said = site.shell.run(setting_up.splitlines()[0])
    assert (code, [line for line in said if line]) == (0, [])


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "CREATE TEMP TABLE mine (a int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP TABLE answers",
        "ALTER TABLE quotas ADD COLUMN mine int",
        "TRUNCATE answers",
        "DELETE FROM history",
        "DELETE FROM quotas",
        "DELETE FROM tariff_versions",
        "UPDATE history SET reason = ''",
        "UPDATE history SET actor = ''",
        "UPDATE tariff_versions SET content = ''",
        "UPDATE alembic_version SET version_num = ''",
        "SELECT setval('history_number_seq', 1)",
        "SET ROLE quotafleet_owner",
    ],
)
async def test_the_service_changes_no_schema_and_deletes_no_record(site: Site, statement: str) -> None:
    connection = await asyncpg.connect(site.as_role(SERVICE))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_nobody_else_may_connect(site: Site) -> None:
    await site.server.execute("postgres", "CREATE ROLE stranger LOGIN")
    await site.server.execute("postgres", "ALTER ROLE stranger PASSWORD 'hush'")
    url = f"postgresql://stranger:hush@127.0.0.1:{site.server.port}/{DATABASE}"
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
        await asyncpg.connect(url)


async def test_only_the_owner_migrates(site: Site) -> None:
    connection = await asyncpg.connect(site.as_role(OWNER))
    try:
        await connection.execute("CREATE TABLE another (a int)")
        await connection.execute("DROP TABLE another")
    finally:
        await connection.close()


async def test_controllers_do_all_their_work_as_the_service(fleet: PairFleet) -> None:
    await fleet.quota(target=100)
    agents = [await fleet.agent(name) for name in ("a", "b")]
    assert sum([await agent.spend("q", 20) for agent in agents]) == 40
    for number, served in enumerate(fleet.every_served):
        await served.quotas.SetTarget(
            pb.SetTargetRequest(quota="q", target=120 + number, request_id=f"{number}")
        )
    asked = pb.RequestOverrideRequest(quota="q", agent="a", amount=3, reason="the story says so")
    override = (await fleet.at(1).quotas.RequestOverride(asked)).override
    decision = pb.DecideOverrideRequest(override_id=override.override_id, decision=pb.DECISION_APPROVE)
    await fleet.at(0).quotas.DecideOverride(decision)
    await fleet.at(0).rules.CommitTransaction(
        rules_pb.CommitTransactionRequest(transaction=message(BASE), options=OPTIONS)
    )
    await fleet.at(1).agents.UnassignQuota(admin_pb.UnassignQuotaRequest(quota="q", agent="b"))
    await agents[1].cut()
    await fleet.at(0).agents.SettleAgent(admin_pb.SettleAgentRequest(agent="b"))
    await fleet.at(1).agents.RetireAgent(admin_pb.RetireAgentRequest(agent="b"))
    count = await fleet.count()
    assert (count.target, count.count) == (121, 40)
    for controller in fleet.controllers:
        await controller.stop()
        kept = controller.log.parent
        assert {file.name for file in kept.iterdir()} == {"master.key", controller.log.name}
        assert "ERROR" not in controller.log.read_text()
    await fleet.controllers[0].start()
    await fleet.at(0).agents.RetireAgent(admin_pb.RetireAgentRequest(agent="a"))
    await fleet.at(0).quotas.CloseQuota(pb.CloseQuotaRequest(quota="q"))


# --- put back to a moment --------------------------------------------------------------------------------------------


def take_data(server: PostgresServer, backup: Path) -> Path:
    """A base backup becomes the data of a server that does not run; returns where it is."""
    data, owner = server.folder / "data", os.stat(server.folder)
    if data.exists():
        data.rename(data.with_name("data.before"))
    shutil.copytree(backup, data)
    data.chmod(0o700)
    for path in (data, *data.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    return data


async def holds(server: PostgresServer, question: str) -> None:
    """Waits until the answer is yes."""
    async with asyncio.timeout(60):
        while not (await server.fetch("postgres", question))[0][0]:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.05)


async def test_a_database_that_is_put_back_to_a_moment_recovers_as_the_page_says(
    site: Site, fleet: PairFleet, caplog: pytest.LogCaptureFixture
) -> None:
    await fleet.quota("trial/places", target=100)
    leeds, cardiff = [await fleet.agent(name, "trial/places") for name in ("leeds", "cardiff")]
    assert await leeds.spend("trial/places", 10) == 10
    await fleet.count("trial/places")
    await asyncio.to_thread(site.play, "Backup")
    assert await leeds.spend("trial/places", 20) == 20
    await fleet.count("trial/places")
    [[moment]] = await site.server.fetch("postgres", "SELECT now()::text")
    # What is forgotten: a target, an agent, and what was spent.
    await fleet.set_target(300, "trial/places")
    york = await fleet.agent("york", "trial/places")
    assert await leeds.spend("trial/places", 70) == 70
    assert await york.spend("trial/places", 15) == 15
    await fleet.count("trial/places")
    for agent in (leeds, cardiff, york):
        await agent.cut()
    for controller in fleet.controllers:
        await controller.kill()
    await asyncio.to_thread(site.server.stop)
    data = take_data(site.server, site.backup / "base")
    settings = {**site.settings("Restore"), "recovery_target_time": moment}
    with (data / "postgresql.auto.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    (data / "recovery.signal").touch()
    await asyncio.to_thread(site.server.start)
    await holds(site.server, "SELECT NOT pg_is_in_recovery()")
    await asyncio.to_thread(site.play, "Restore", 0)
    for controller in fleet.controllers:
        await controller.start()
    await asyncio.to_thread(site.shell.run, f"export QUOTAFLEET_SERVER={fleet.controllers[1].address}")
    await asyncio.to_thread(site.play, "Restore", 1)
    # Cardiff was idle and holds half of the old target; Leeds has used what it was given after the moment.
    for agent in (leeds, cardiff):
        agent.connect()
        await agent.linked()
    count = await fleet.count("trial/places")
    assert (count.target, count.count, count.recovering) == (100, 100, True)
    assert not count.HasField("upper_bound")
    assert await leeds.spend("trial/places") == 0, "no limit grows"
    york.connect()
    await until(
        lambda: "AGENT_UNKNOWN" in caplog.text, "an agent that was enrolled after the moment is refused"
    )
    await york.cut()
    await asyncio.to_thread(site.play, "Restore", 2)
    count = await fleet.count("trial/places")
    assert (count.target, count.count, count.recovering) == (300, 115, False)
    assert count.upper_bound <= 300
    assert sum([await agent.spend("trial/places") for agent in (leeds, cardiff)]) <= 300 - 115
    # The new times go into the archive as well: they can be put back to.
    await site.server.execute("postgres", "SELECT pg_switch_wal()")
    await asyncio.to_thread(until_there, site.backup / "wal", "00000002")


def until_there(folder: Path, timeline: str) -> None:
    until_seconds = time.monotonic() + 30
    while not any(file.name.startswith(timeline) for file in folder.iterdir()):
        assert time.monotonic() < until_seconds, "no segment of the new timeline is archived"
        time.sleep(0.05)


def test_a_dump_is_put_back_and_can_be_served_from(site: Site) -> None:
    shutil.rmtree(site.backup / "base", ignore_errors=True)
    site.play("Backup")
    site.play("Restore", 3)


# --- another primary -------------------------------------------------------------------------------------------------


async def test_nothing_is_lost_with_a_primary_whose_replica_was_synchronous(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of the module: it takes the module's server."""
    monkeypatch.setenv("PGPASSFILE", str(site.folder / "pgpass"))
    second = PostgresServer()
    try:
        await asyncio.to_thread(site.play, "A replica")
        take_data(second, site.backup / "second")
        await asyncio.to_thread(second.start)
        await holds(site.server, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        hosts = f"127.0.0.1:{site.server.port},127.0.0.1:{second.port}"
        url = f"postgresql://{SERVICE}@{hosts}/{DATABASE}?target_session_attrs=primary"
        async with open_site_fleet(site, tmp_path, url) as fleet:
            await fleet.quota("moved", target=50)
            agents = [await fleet.agent(name, "moved") for name in ("first-agent", "second-agent")]
            assert sum([await agent.spend("moved", 20) for agent in agents]) == 40
            await fleet.set_target(100, "moved")
            await asyncio.to_thread(site.server.kill)
            assert sum([await agent.spend("moved", 5) for agent in agents]) == 10, "they go on"
            await second.execute("postgres", "SELECT pg_promote()")
            await holds(second, "SELECT NOT pg_is_in_recovery()")
            for served in fleet.every_served:
                async with asyncio.timeout(30):
                    while not await served.serving():  # noqa: ASYNC110 - of another process
                        await asyncio.sleep(0.05)
            for agent in agents:
                await agent.linked()
            count = await fleet.count("moved")
            assert (count.target, count.count, count.recovering) == (100, 50, False)
            history = await fleet.at(1).quotas.ListHistory(pb.ListHistoryRequest(quota="moved"))
            assert "adopted" not in {entry.action for entry in history.entries}
            assert await fleet.hungry(*agents, total=100, quota="moved") == 50
    finally:
        await asyncio.to_thread(second.close)
