"""The application of an API process: its routes, and the tasks that run from its start to its stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import httpx
import psycopg
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route, WebSocketRoute

from onsembl.api.auth.accounts import Accounts, builtin_look, hosted_look
from onsembl.api.auth.agent_keys import AgentKeys
from onsembl.api.auth.agent_tokens import AgentTokens
from onsembl.api.auth.device_flow import DeviceFlow
from onsembl.api.auth.instance_tokens import InstanceTokens
from onsembl.api.auth.introspected_tokens import IntrospectedTokens
from onsembl.api.auth.operator_tokens import OperatorTokens
from onsembl.api.auth.rate_limits import RateLimiter
from onsembl.api.auth.rejections import Rejections
from onsembl.api.auth.shared_failures import SharedFailures
from onsembl.api.auth.sign_in_audit import audit_sign_ins
from onsembl.api.database_state import DatabaseState
from onsembl.api.event_feed import EventFeed
from onsembl.api.host_requests import HostRequests
from onsembl.api.http.client_address import FORWARDED_FOR, ClientAddress
from onsembl.api.http.dashboard import SecurityHeaders, config, page_routes, security_headers
from onsembl.api.http.health import Readiness, healthz, readyz
from onsembl.api.http.host_check import KnownHosts
from onsembl.api.http.openapi import openapi
from onsembl.api.http.origin_check import OwnPages
from onsembl.api.http.problems import (
    Problem,
    http_error_answer,
    no_database_answer,
    problem_answer,
    read_only_answer,
    send_error_answer,
    server_error_answer,
)
from onsembl.api.http.request_log import RequestLog
from onsembl.api.http.unreadable_values import UnreadableValues
from onsembl.api.http.url_check import TextUrls
from onsembl.api.instances.affinity import Affinity
from onsembl.api.instances.drain import Drain
from onsembl.api.instances.instance import Instance
from onsembl.api.instances.relay_socket import relay_socket
from onsembl.api.instances.relays import Relays
from onsembl.api.metrics import Metrics
from onsembl.api.reason import reason_of
from onsembl.api.release_wheel import ReleaseWheel, installed_release
from onsembl.api.routes.devices import ROUTES as DEVICE_ROUTES
from onsembl.api.routes.metrics import metrics
from onsembl.api.routes.table import ENDPOINTS
from onsembl.api.services import Services
from onsembl.api.serving import MAX_FRAME_BYTES
from onsembl.api.settings import Settings
from onsembl.api.terminals.agent_presence import AgentPresence
from onsembl.api.terminals.agent_reports import AgentReports
from onsembl.api.terminals.agent_socket import agent_socket
from onsembl.api.terminals.archiver import Archiver
from onsembl.api.terminals.hub import Hub
from onsembl.api.terminals.last_lines import LastLines
from onsembl.api.terminals.terminal_socket import terminal_socket
from onsembl.fleet.commands import SendError
from onsembl.fleet.listener import Listener
from onsembl.protocol.relay_messages import RELAY_PATH
from onsembl.realtime.builtin import BuiltinSupabase
from onsembl.realtime.channels.proxy import RealtimeProxy
from onsembl.realtime.operators import OperatorDirectory
from onsembl.sql import audit_chain, instances
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import DATABASE_ERRORS
from onsembl.sql.process_database import ProcessDatabase
from onsembl.sql.supervision import start_supervised
from onsembl.tasks.retention import AUDIT_DAYS
from onsembl.tasks.standby import stand_by
from onsembl.tasks.worker import WORKER_END_SECONDS, run_jobs

logger = logging.getLogger(__name__)

ARCHIVE_PATIENCE = 2.0
"""How long the archiver waits for a connection, in seconds, before the database counts as unavailable."""
DEREGISTRATION_SECONDS = 2.0
"""How long the database may take to remove an instance that stops."""
ARCHIVE_DRAIN_SECONDS = 5.0
"""How long an instance that stops may take to archive the waiting bytes, in seconds."""


def create_app(settings: Settings, on_failure: Callable[[Exception], None] = lambda _error: None) -> Starlette:
    """The ASGI application of one instance.

    `on_failure` gets the error when a background task of the instance fails after each restart: the instance can do
    only a part of its work, so its process should end.
    """
    database = ProcessDatabase(settings.database_url, settings.connections, pooler_url=settings.pooler_url, api=True)
    pool = database.work
    builtin: BuiltinSupabase | None = None
    failures = SharedFailures()

    def on_rejected(endpoint: str, reason: str, address: str) -> None:
        app.state.services.rejections.record(endpoint, reason, address)

    if settings.hosted is None:
        builtin = BuiltinSupabase(
            database_url=settings.database_url,
            issuer=f"{settings.public_url}/auth/v1",
            on_event=audit_sign_ins(pool, failures),
            on_rejected=on_rejected,
            on_failure=on_failure,
            settings=settings.auth,
            limits=settings.realtime_limits,
            realtime_proxy=_realtime_proxy(settings),
        )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(database)
            if builtin is not None:
                await builtin.start()
                stack.push_async_callback(builtin.stop)
                failures.count_in("password", builtin.sign_in_failures)
            rate_limiter = RateLimiter(settings.limits, failures)
            operator_tokens = await _operator_tokens(settings, builtin, stack, rate_limiter)
            accounts = await _accounts(settings, builtin, stack)
            services = await _start(
                settings, database, stack, operator_tokens, accounts, builtin, rate_limiter, on_failure
            )
            app.state.services = services
            app.state.readiness = Readiness(pool)
            yield

    routes: list[BaseRoute] = [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/config.json", config),
        Route("/openapi.json", openapi),
        *DEVICE_ROUTES,
        *(route for endpoint in ENDPOINTS for route in endpoint.routes()),
        WebSocketRoute("/v1/agent", agent_socket),
        WebSocketRoute("/v1/agents/{agent_id:uuid}/connection", agent_socket),
        WebSocketRoute(RELAY_PATH, relay_socket),
        WebSocketRoute("/v1/agents/{agent_id:uuid}/terminal", terminal_socket),
        *(builtin.routes if builtin is not None else []),
        *page_routes(settings.dashboard),
    ]
    headers = security_headers(settings.hosted.url if settings.hosted is not None else None)
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=_middleware(settings, headers),
        exception_handlers={
            Problem: problem_answer,
            SendError: send_error_answer,
            HTTPException: http_error_answer,
            psycopg.OperationalError: no_database_answer,
            PoolTimeout: no_database_answer,
            psycopg.errors.ReadOnlySqlTransaction: read_only_answer,
            Exception: server_error_answer(headers),
        },
    )
    return app


def _realtime_proxy(settings: Settings) -> RealtimeProxy | None:
    if settings.realtime_url is None:
        return None
    return RealtimeProxy(settings.realtime_url, settings.client_address_header or FORWARDED_FOR, MAX_FRAME_BYTES)


async def drain(app: Starlette, hurry: asyncio.Event) -> None:
    """Move the agents and viewers of an app that is about to stop to other instances; hurry when the event is set."""
    services: Services = app.state.services
    await services.drain.run(services.settings.drain_seconds, hurry)


def _middleware(settings: Settings, headers: Mapping[str, str]) -> list[Middleware]:
    inner = [
        Middleware(RequestLog),
        Middleware(SecurityHeaders, headers=headers),
        Middleware(TextUrls),
        Middleware(KnownHosts),
        Middleware(OwnPages),
    ]
    if settings.client_address_header is None:
        return inner
    return [Middleware(ClientAddress, header=settings.client_address_header), *inner]


def _supabase_key(settings: Settings, builtin: BuiltinSupabase | None) -> str:
    if settings.hosted is not None:
        return settings.hosted.publishable_key
    assert builtin is not None
    return builtin.publishable_key


async def _directory(settings: Settings, builtin: BuiltinSupabase | None, stack: AsyncExitStack) -> OperatorDirectory:
    if settings.hosted is not None:
        from onsembl.realtime.hosted_operators import hosted_operators  # its client is slow to import

        return await stack.enter_async_context(hosted_operators(settings.hosted))
    assert builtin is not None
    return builtin.operators


async def _accounts(settings: Settings, builtin: BuiltinSupabase | None, stack: AsyncExitStack) -> Accounts:
    """The operators' accounts, at the hosted project or in the built-in Supabase."""
    if settings.hosted is None:
        assert builtin is not None
        return Accounts(builtin_look(builtin))
    client = await stack.enter_async_context(httpx.AsyncClient(timeout=10.0))
    return Accounts(hosted_look(client, settings.hosted.issuer, settings.hosted.publishable_key))


async def _operator_tokens(
    settings: Settings, builtin: BuiltinSupabase | None, stack: AsyncExitStack, rate_limiter: RateLimiter
) -> OperatorTokens:
    """The verifier of operators' tokens, with the keys that the hosted project or the built-in Supabase publishes."""
    if settings.hosted is None:
        assert builtin is not None
        return OperatorTokens(f"{settings.public_url}/auth/v1", builtin.jwks)
    hosted = settings.hosted
    client = await stack.enter_async_context(httpx.AsyncClient(timeout=10.0))

    async def fetch() -> Mapping[str, Any]:
        response = await client.get(f"{hosted.issuer}/.well-known/jwks.json")
        response.raise_for_status()
        return response.json()

    return OperatorTokens(
        hosted.issuer, fetch, IntrospectedTokens(client, hosted.issuer, hosted.publishable_key, rate_limiter)
    )


async def _start(
    settings: Settings,
    database: ProcessDatabase,
    stack: AsyncExitStack,
    operator_tokens: OperatorTokens,
    accounts: Accounts,
    builtin: BuiltinSupabase | None,
    rate_limiter: RateLimiter,
    on_failure: Callable[[Exception], None],
) -> Services:
    run = partial(start_supervised, on_failure=on_failure)
    pool = database.work
    counted = Metrics()
    agent_keys = AgentKeys(pool, settings.agent_access_token)
    await agent_keys.load()
    agent_tokens = AgentTokens(pool, agent_keys, settings.agent_refresh_token, rate_limiter, counted.refreshes)
    async with pool.connection() as conn:
        instance_id = await instances.register(conn, settings.address)
        await audit_chain.keep_partitions(conn, AUDIT_DAYS)  # after a long downtime there may be none for today

    async def deregister() -> None:
        try:
            async with asyncio.timeout(DEREGISTRATION_SECONDS), pool.connection() as conn:
                await instances.remove(conn, instance_id)
        except (*DATABASE_ERRORS, TimeoutError) as error:  # workers remove the instance when it is silent
            logger.warning(
                "The instance could not be removed: %s", reason_of(error), extra={"action": "deregistration_failed"}
            )

    stack.push_async_callback(deregister)
    hub = Hub(pool, settings.ring_bytes, _start_archiver(settings, database, stack, on_failure))
    last_lines = LastLines(pool)
    stack.push_async_callback(last_lines.write)
    reports = AgentReports(hub, pool, database.statements, counted.command_ended, last_lines)
    rejections = Rejections(pool, counted.rejected)
    stack.push_async_callback(rejections.write)
    unreadable = UnreadableValues(pool, counted.unreadable)
    stack.push_async_callback(unreadable.write)
    state = DatabaseState(pool, settings.database_limit)
    presence = AgentPresence(pool, instance_id, reports)
    affinity = Affinity(pool, settings.address, settings.instance_dead_after)
    instance_tokens = InstanceTokens(agent_keys, instance_id)
    relays = Relays(affinity, instance_tokens, settings.public_url, settings.ring_bytes)
    stack.push_async_callback(relays.stop)
    services = Services(
        settings=settings,
        pool=pool,
        hub=hub,
        presence=presence,
        drain=Drain(hub, presence, database.heartbeat, settings.address, settings.instance_dead_after),
        affinity=affinity,
        relays=relays,
        instance_tokens=instance_tokens,
        reports=reports,
        agent_keys=agent_keys,
        agent_tokens=agent_tokens,
        operator_tokens=operator_tokens,
        accounts=accounts,
        supabase_key=_supabase_key(settings, builtin),
        rate_limiter=rate_limiter,
        device_flow=DeviceFlow(pool, agent_tokens),
        rejections=rejections,
        unreadable=unreadable,
        database=state,
        directory=await _directory(settings, builtin, stack),
        builtin=builtin,
        metrics=counted,
        event_feed=EventFeed(pool),
        host_requests=HostRequests(),
        release_wheel=ReleaseWheel(installed_release),
    )
    counted.pools.watch(database)
    listener = Listener(settings.database_url)
    instance = Instance(services, instance_id, listener, database.heartbeat)
    tasks = [
        run("The listening connection", listener.run),
        run("The instance's heartbeat", instance.send_heartbeats),
        run("The comparison of connections", instance.compare_connections),
        run("The receiver of messages", instance.receive_messages),
        run("The listener for events", lambda: services.event_feed.listen(listener)),
        run("The listener for hosts", lambda: services.host_requests.listen(listener)),
        run("The positions of events", services.event_feed.give_positions),
        run("The writer of rejections", rejections.write_forever),
        run("The writer of last lines", last_lines.write_forever),
        run("The writer of alerts", unreadable.write_forever),
        run("The watch of the database", state.watch),
        run("The measurement of the event loop", counted.loop_lag.watch),
    ]
    workers: list[asyncio.Task[None]] = []
    if (worker := settings.worker) is not None:
        workers.append(run("The worker", lambda: run_jobs(database, listener, worker, counted.worker, local=hub)))
    elif (standby := settings.standby) is not None:
        tasks.append(run("The standby for workers", lambda: stand_by(database, listener, standby)))

    async def stop() -> None:
        await asyncio.gather(cancel_until_done(tasks), cancel_until_done(workers, again=WORKER_END_SECONDS))
        await services.background_tasks.stop()

    stack.push_async_callback(stop)
    return services


def _start_archiver(
    settings: Settings,
    database: ProcessDatabase,
    stack: AsyncExitStack,
    on_failure: Callable[[Exception], None],
) -> Archiver:
    archiver = Archiver(
        database.archive(ARCHIVE_PATIENCE),
        stream_bytes=settings.backlog_bytes,
        total_bytes=settings.total_backlog_bytes,
    )
    running = start_supervised("The archiver", archiver.run, on_failure)
    stack.push_async_callback(archiver.drain, running, ARCHIVE_DRAIN_SECONDS)
    return archiver
