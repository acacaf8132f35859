"""The controller, put together: from a configuration to a running server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from quota_server.clock import SystemClock
from quota_server.config import ConfigInvalid, ServerConfig
from quota_server.errors import QuotaServerError, StoreUnavailable
from quota_server.fleet.again import again
from quota_server.fleet.fleet import Fleet
from quota_server.fleet.others import Neighbourhood
from quota_server.keys import KeyUnusable, MasterKey, load_or_create
from quota_server.ledger.administration import Administration
from quota_server.ledger.enrolment import Enrolments
from quota_server.ledger.link_batch import LinkBatches
from quota_server.ledger.marks import Marks
from quota_server.ledger.recovery import Recovery
from quota_server.overrides.decisions import Overrides
from quota_server.services.agent_admin_service import AgentAdminService
from quota_server.services.agent_link_service import AgentLinkService
from quota_server.services.quota_service import QuotaService
from quota_server.services.rules_service import RulesService
from quota_server.storage import upkeep
from quota_server.storage.connected import Database
from quota_server.storage.controllers import SqlControllers
from quota_server.storage.database import open_database
from quota_server.storage.ledger_store import SqlLedgerStore
from quota_server.storage.notices import PostgresNotices
from quota_server.storage.postgres import PostgresDatabase
from quota_server.storage.sessions import SqlSessions
from quota_server.storage.tariff_store import SqlTariffStore
from quota_server.storage.tariff_views import SqlTariffViews
from quota_server.storage.upkeep import Schema as Schema  # noqa: PLC0414 - what two functions answer
from quota_server.storage.views import SqlLedgerViews
from quota_server.tariff.data import TariffData
from quota_server.tariff.workers import Workers
from quotafleet.v1 import (
    agent_admin_service_pb2,
    agent_admin_service_pb2_grpc,
    agent_link_service_pb2,
    agent_link_service_pb2_grpc,
    quota_service_pb2,
    quota_service_pb2_grpc,
    rules_service_pb2,
    rules_service_pb2_grpc,
)

_log = logging.getLogger(__name__)

_SERVICES = (
    quota_service_pb2.DESCRIPTOR.services_by_name["QuotaService"].full_name,
    agent_admin_service_pb2.DESCRIPTOR.services_by_name["AgentAdminService"].full_name,
    agent_link_service_pb2.DESCRIPTOR.services_by_name["AgentLinkService"].full_name,
    rules_service_pb2.DESCRIPTOR.services_by_name["RulesService"].full_name,
)
#: How long calls in flight may take to end when the server drains.
_DRAIN_SECONDS = 5.0
_HEALTH_SECONDS = 1.0
#: For how many heartbeats a limit raised from the reserve is kept for whoever asked.
_KEEP_HEARTBEATS = 12
#: For how long a mutation's answer is remembered under its request_id, and how often older ones are looked for.
_ANSWERS_KEPT_MS = 30 * 24 * 3_600_000
_FORGET_SECONDS = 3_600.0
#: For how long what agents say is gathered before it is written to a database that others write to.
_GATHER_MS = 20

_OPTIONS = (
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),
)


class ControllerFailed(QuotaServerError):
    """The controller cannot go on; what it answered is durable."""


@dataclass(frozen=True, slots=True)
class Controller:
    """A controller that serves; everything in it is open."""

    config: ServerConfig
    address: str
    keys: MasterKey
    store: SqlLedgerStore
    views: SqlLedgerViews
    fleet: Fleet
    leases: SqlControllers
    #: What other controllers say; None where there can be no other.
    notices: PostgresNotices | None
    #: Set if the work of the fleet has failed: nothing is served any more.
    failed: asyncio.Event


@dataclass(frozen=True, slots=True)
class _Services:
    quotas: QuotaService
    agents: AgentAdminService
    links: AgentLinkService
    rules: RulesService


@contextlib.asynccontextmanager
async def open_controller(config: ServerConfig) -> AsyncIterator[Controller]:
    """Opens the data directory and serves until the context is left; then drains.

    Raises ConfigInvalid, KeyUnusable or DatabaseUnusable before anything is served.
    """
    if not __debug__:
        raise ConfigInvalid("python -O would switch off the ledger's checks: run without it")
    config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if isinstance(config.where, Path) and config.key_file.exists() and not config.where.exists():
        _log.warning(
            "%s is new and empty, but its master key is not: if the fleet's database is elsewhere, stop, remove the "
            "new file, and name it with --database or QUOTAFLEET_DATABASE",
            config.where,
        )
    async with open_database(config.where) as database:
        _log.info("database=%s", upkeep.named(config.where))
        keys = await _load_key(SqlLedgerStore(database), config)
        controller, server, services = await _compose(config, keys, database)
        health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        reflection.enable_server_reflection(
            (*_SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME),
            server,
        )
        await server.start()
        work = asyncio.create_task(_work(controller), name="fleet")
        watch = asyncio.create_task(_report_health(controller, health), name="health")
        forget = asyncio.create_task(_forget_answers(controller.store), name="old answers")
        try:
            yield controller
        finally:
            watch.cancel()
            forget.cancel()
            await _set_health(health, serving=False)
            services.links.end_streams()
            services.quotas.end_watches()
            await server.stop(_DRAIN_SECONDS)
            await asyncio.gather(services.quotas.drain(), services.agents.drain(), services.rules.drain())
            work.cancel()
            await asyncio.gather(work, watch, forget, return_exceptions=True)
            # If it cannot say so, the others find out by themselves.
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await controller.leases.end()


async def serve(config: ServerConfig) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal leaves at once."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)  # what was answered is durable
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with open_controller(config) as controller:
        _collect_rarely()
        print(f"quota-server ready address={controller.address}", file=sys.stderr, flush=True)
        ends = [asyncio.create_task(event.wait()) for event in (stop, controller.failed)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        if controller.failed.is_set():
            raise ControllerFailed("the fleet's work has failed; see the log")
    _log.info("stopped")


def _collect_rarely() -> None:
    """A fan-out makes many records that live for a moment, and no cycles: looking at every stream for each is dear."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def migrate_database(where: str | Path, service_role: str = "") -> Schema:
    """See `storage.upkeep`."""
    return await upkeep.migrate_database(where, service_role)


async def look_at_database(where: str | Path) -> Schema:
    """See `storage.upkeep`."""
    return await upkeep.look_at_database(where)


async def declare_restored(config: ServerConfig) -> int:
    """Declares that the database was restored from a backup; the new generation (section 8 of the design)."""
    if isinstance(config.where, Path) and not config.where.exists():
        raise ConfigInvalid(f"there is no database at {config.where}: put the backup there first")
    await upkeep.refuse_while_served(config.where)
    async with open_database(config.where) as database:
        begin = Recovery(SqlLedgerStore(database)).begin
        return await again(lambda: begin(SystemClock().wall_ms()))


async def _load_key(store: SqlLedgerStore, config: ServerConfig) -> MasterKey:
    """The master key of this database. A new database takes the key that is there, or one is made for it.

    With another key every agent would be taken for a stranger, so one is never made for a database that has one.
    """
    if await again(lambda: _fingerprint(store, "")) and not config.key_file.exists():
        raise KeyUnusable(
            f"{config.key_file} is missing: put back the key that this database was made with, or copy it from "
            "another controller"
        )
    keys = load_or_create(config.key_file)
    if await again(lambda: _fingerprint(store, keys.fingerprint)) != keys.fingerprint:
        raise KeyUnusable(
            f"{config.key_file} is not the key that this database was made with: put that one back"
        )
    return keys


async def _fingerprint(store: SqlLedgerStore, ours: str) -> str:
    """That of the key which the database goes with; a new one goes with ours from now on."""
    async with store.transaction() as transaction:
        if ours:
            transaction.book.go_with_key(ours)
        return transaction.book.meta.key_fingerprint


async def _compose(
    config: ServerConfig, keys: MasterKey, database: Database
) -> tuple[Controller, grpc.aio.Server, _Services]:
    uid, clock = _new_id(), SystemClock()
    store, views = SqlLedgerStore(database, uid), SqlLedgerViews(database)
    administration = Administration(store, _new_id)
    overrides = Overrides(store, _new_id, keep_ms=_KEEP_HEARTBEATS * config.heartbeat_ms)
    batches = LinkBatches(store, Marks(keys.mark_key), config.heartbeat_ms, uid)
    workers = Workers()
    tariff = await TariffData.open(SqlTariffStore(database, uid), workers)
    leases = SqlControllers(database, uid, config.listen, alone=not isinstance(database, PostgresDatabase))
    await again(leases.begin)
    notices, around = None, None
    if isinstance(database, PostgresDatabase):
        notices = PostgresNotices(database, uid)
        around = Neighbourhood(uid, notices, SqlSessions(database), leases, tariff.look_again)
    gather_ms = (_GATHER_MS if around else 0) if config.gather_ms is None else config.gather_ms
    fleet = Fleet(batches, administration, overrides, store, clock, config.heartbeat_ms, around, gather_ms)
    services = _Services(
        QuotaService(administration, overrides, views, store, fleet, clock),
        AgentAdminService(Enrolments(store, _new_id), Recovery(store), views, store, fleet, keys, clock),
        AgentLinkService(fleet, keys, clock, config.heartbeat_ms),
        RulesService(tariff, SqlTariffViews(database), workers, clock),
    )
    server = grpc.aio.server(options=_OPTIONS)
    quota_service_pb2_grpc.add_QuotaServiceServicer_to_server(services.quotas, server)
    agent_admin_service_pb2_grpc.add_AgentAdminServiceServicer_to_server(services.agents, server)
    agent_link_service_pb2_grpc.add_AgentLinkServiceServicer_to_server(services.links, server)
    rules_service_pb2_grpc.add_RulesServiceServicer_to_server(services.rules, server)
    host = config.listen.rpartition(":")[0]
    try:
        port = server.add_insecure_port(config.listen)
    except RuntimeError as error:
        raise ConfigInvalid(f"--listen {config.listen}: the port cannot be had; is it in use?") from error
    address = f"{host}:{port}"
    controller = Controller(config, address, keys, store, views, fleet, leases, notices, asyncio.Event())
    return controller, server, services


async def _work(controller: Controller) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(controller.fleet.run(), name="fleet")
            if controller.notices is not None:
                tasks.create_task(controller.notices.run(), name="notices")
    except Exception:
        _log.exception("the fleet's work has failed")
        controller.failed.set()


async def _forget_answers(store: SqlLedgerStore) -> None:
    """A few at a time, so that nobody waits for it."""
    clock = SystemClock()
    while True:
        try:
            while await store.forget_answers(clock.wall_ms() - _ANSWERS_KEPT_MS):  # noqa: ASYNC110 - a few at a time
                await asyncio.sleep(0.1)
        except StoreUnavailable as refusal:
            _log.warning("old answers were not forgotten: %s", refusal.message)
        await asyncio.sleep(_FORGET_SECONDS)


async def _report_health(controller: Controller, health: health_aio.HealthServicer) -> None:
    """Serving while the database takes changes; a failing one is tried again, so that health recovers by itself."""
    serving: bool | None = None
    while True:
        lost = controller.notices is not None and not controller.notices.listening
        if lost or not controller.fleet.store_ok:
            try:
                await controller.store.probe()
            except StoreUnavailable as refusal:  # whatever became of it, it decided nothing
                controller.fleet.store_failed(StoreUnavailable(refusal.message))
            else:
                controller.fleet.store_recovered()
        if serving is not controller.fleet.store_ok:
            serving = controller.fleet.store_ok
            await _set_health(health, serving=serving)
        await asyncio.sleep(_HEALTH_SECONDS)


async def _set_health(health: health_aio.HealthServicer, *, serving: bool) -> None:
    kind = health_pb2.HealthCheckResponse
    status = kind.SERVING if serving else kind.NOT_SERVING
    for name in ("", *_SERVICES):
        await health.set(name, status)


def _new_id() -> str:
    return str(uuid.uuid4())
