"""`/metrics`, in Prometheus' text form: for this machine, or for whoever shows the token that the settings name."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from onsembl.api.http.client_address import client_address
from onsembl.api.http.endpoint import bearer
from onsembl.api.http.problems import Problem, unauthenticated
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
    """The endpoint. Those of the database are left out while it does not answer."""
    services: Services = request.app.state.services
    try:
        _admit(request, services)
    except Problem as problem:
        services.rejections.record("GET /metrics", problem.detail, client_address(request))
        raise
    limits = await _read(services, vendor_limits.figures, "The limits")
    figures = await _read(services, activities.figures, "The agents' activities")
    load = await _read(services, lambda conn: jobs.load(conn, services.settings.dead_after), "The jobs")
    services.state_metrics.unfinished = await count_unfinished(services)  # and nothing awaits until it is read
    services.state_metrics.limits = limits
    services.state_metrics.load, services.state_metrics.jobs_per_worker = load, services.settings.jobs_per_worker
    services.state_metrics.activities = figures
    return Response(generate_latest(services.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def count_unfinished(services: Services) -> Unfinished | None:
    """The numbers of unfinished commands; None while the database is unavailable."""
    return await _read(services, stats.unfinished, "The queue")


async def _read(services: Services, read: Callable[[Connection], Awaitable[T]], what: str) -> T | None:
    """Figures of the database; None while it is unavailable."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS), services.pool.connection(DATABASE_SECONDS) as conn:
            return await read(conn)
    except (*DATABASE_ERRORS, TimeoutError) as error:
        logger.warning("%s could not be counted: %s", what, error, extra={"action": "statistics_failed"})
        return None


def _admit(request: Request, services: Services) -> None:
    """Raises Problem 401 or 403."""
    wanted = services.settings.metrics_token
    if wanted is not None:
        if not secrets.compare_digest(bearer(request).encode(), wanted.encode()):
            raise unauthenticated("This is not the token for metrics.")
    elif not _from_here(request):
        raise Problem(403, "Metrics are for this machine, unless a token is set (ONSEMBL_METRICS_TOKEN).")


def _from_here(request: Request) -> bool:
    if any(name in request.headers for name in FORWARDED):
        return False
    address = client_address(request)
    return address == "" or ip_address(address).is_loopback
