"""`/metrics`, in Prometheus' text form: for this machine, or for whoever shows the token that the settings name."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from onsembl.api.http.client_address import client_address
from onsembl.api.http.endpoint import bearer
from onsembl.api.http.problems import Problem, unauthenticated
from onsembl.api.instances.sibling_metrics import OWN, all_processes
from onsembl.api.metrics import FleetMetrics
from onsembl.api.reason import reason_of
from onsembl.api.services import Services
from onsembl.fleet import activities
from onsembl.sql import jobs, stats, vendor_limits
from onsembl.sql.database import DATABASE_ERRORS, Connection
from onsembl.sql.stats import Unfinished

logger = logging.getLogger(__name__)

T = TypeVar("T")

DATABASE_SECONDS = 1.0
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "fly-client-ip", "via")
"""What a proxy adds: behind one on this machine, everybody comes from it."""


async def metrics(request: Request) -> Response:
    """The endpoint. Those of the database are left out while it does not answer.

    Where `up` runs several processes, the one that is asked adds the metrics of the others, which it asks for with the
    query `process=own`.
    """
    services: Services = request.app.state.services
    settings = services.settings
    try:
        admit(request, settings.metrics_token)
    except Problem as problem:
        services.rejections.record("GET /metrics", problem.detail, client_address(request))
        raise
    if request.query_params.get("process") == OWN:
        return _text(services.metrics.registry)
    fleet = await _fleet_metrics(services)
    if not settings.siblings:
        return _text(services.metrics.registry, fleet)
    return _text(await all_processes(services.metrics.registry, settings), fleet)


def _text(*collectors: Collector) -> Response:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


async def _fleet_metrics(services: Services) -> FleetMetrics:
    return FleetMetrics(
        limits=await read_briefly(services, vendor_limits.figures, "The limits"),
        activities=await read_briefly(services, activities.figures, "The agents' activities"),
        load=await read_briefly(services, lambda conn: jobs.load(conn, services.settings.dead_after), "The jobs"),
        unfinished=await count_unfinished(services),
        jobs_per_worker=services.settings.jobs_per_worker,
    )


async def count_unfinished(services: Services) -> Unfinished | None:
    """The numbers of unfinished commands; None while the database is unavailable."""
    return await read_briefly(services, stats.unfinished, "The queue")


async def read_briefly(services: Services, read: Callable[[Connection], Awaitable[T]], what: str) -> T | None:
    """Figures of the database; None while it is unavailable."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS), services.pool.connection(DATABASE_SECONDS) as conn:
            return await read(conn)
    except (*DATABASE_ERRORS, TimeoutError) as error:
        logger.warning("%s could not be counted: %s", what, reason_of(error), extra={"action": "statistics_failed"})
        return None


def admit(request: Request, token: str | None) -> None:
    """Let through who shows the token or, if there is none, this machine. Raises Problem 401 or 403."""
    if token is not None:
        if not secrets.compare_digest(bearer(request).encode(), token.encode()):
            raise unauthenticated("This is not the token for metrics.")
    elif not _from_here(request):
        raise Problem(403, "Metrics are for this machine, unless a token is set (ONSEMBL_METRICS_TOKEN).")


def _from_here(request: Request) -> bool:
    if any(name in request.headers for name in FORWARDED):
        return False
    address = client_address(request)
    return address == "" or ip_address(address).is_loopback
