"""The controller, put together: from a configuration to a running server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from quota_server.clock import SystemClock
from quota_server.config import ConfigInvalid, ServerConfig
from quota_server.errors import QuotaServerError, StoreUnavailable
from quota_server.fleet.fleet import Fleet
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
from quota_server.storage.database import Database, open_database
from quota_server.storage.ledger_store import SqlLedgerStore
from quota_server.storage.tariff_store import SqlTariffStore
from quota_server.storage.tariff_views import SqlTariffViews
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
#: For how long a mutation's answer is remembered under its request_id; older ones are forgotten at a start.
_ANSWERS_KEPT_MS = 30 * 24 * 3_600_000

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
    keys = _load_key(config)
    async with open_database(config.database_file) as database:
        await _check_key(SqlLedgerStore(database), keys, config)
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
        try:
            yield controller
        finally:
            watch.cancel()
            await _set_health(health, serving=False)
            services.links.end_streams()
            services.quotas.end_watches()
            await server.stop(_DRAIN_SECONDS)
            await asyncio.gather(services.quotas.drain(), services.agents.drain(), services.rules.drain())
            work.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)


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
        print(f"quota-server ready address={controller.address}", file=sys.stderr, flush=True)
        ends = [asyncio.create_task(event.wait()) for event in (stop, controller.failed)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        if controller.failed.is_set():
            raise ControllerFailed("the fleet's work has failed; see the log")
    _log.info("stopped")


async def declare_restored(config: ServerConfig) -> int:
    """Declares that the database was restored from a backup; the new generation (section 8 of the design)."""
    if not config.database_file.exists():
        raise ConfigInvalid(f"there is no database at {config.database_file}: put the backup there first")
    async with open_database(config.database_file) as database:
        return await Recovery(SqlLedgerStore(database)).begin(SystemClock().wall_ms())


def _load_key(config: ServerConfig) -> MasterKey:
    """A key is made only together with its database: with another one, every agent would be taken for a stranger."""
    if config.database_file.exists() and not config.key_file.exists():
        raise KeyUnusable(f"{config.key_file} is missing: put back the key that this database was made with")
    return load_or_create(config.key_file)


async def _check_key(store: SqlLedgerStore, keys: MasterKey, config: ServerConfig) -> None:
    async with store.transaction() as transaction:
        if not transaction.book.go_with_key(keys.fingerprint):
            raise KeyUnusable(
                f"{config.key_file} is not the key that this database was made with: put that one back"
            )


async def _compose(
    config: ServerConfig, keys: MasterKey, database: Database
) -> tuple[Controller, grpc.aio.Server, _Services]:
    store, views, clock = SqlLedgerStore(database), SqlLedgerViews(database), SystemClock()
    await store.put_back_online_flags()
    await store.forget_answers(clock.wall_ms() - _ANSWERS_KEPT_MS)
    administration = Administration(store, _new_id)
    overrides = Overrides(store, _new_id, keep_ms=_KEEP_HEARTBEATS * config.heartbeat_ms)
    batches = LinkBatches(store, Marks(keys.mark_key), config.heartbeat_ms)
    workers = Workers()
    tariff = await TariffData.open(SqlTariffStore(database), workers)
    fleet = Fleet(batches, administration, overrides, store, clock, config.heartbeat_ms)
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
    return Controller(config, f"{host}:{port}", keys, store, views, fleet, asyncio.Event()), server, services


async def _work(controller: Controller) -> None:
    try:
        await controller.fleet.run()
    except Exception:
        _log.exception("the fleet's work has failed")
        controller.failed.set()


async def _report_health(controller: Controller, health: health_aio.HealthServicer) -> None:
    """Serving while the database takes changes; a failing one is tried again, so that health recovers by itself."""
    serving: bool | None = None
    while True:
        if not controller.fleet.store_ok:
            with contextlib.suppress(StoreUnavailable):
                await controller.store.probe()
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
