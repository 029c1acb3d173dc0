"""`/metrics`, in Prometheus' text form: for this machine, or for whoever shows the token that the settings name."""

from __future__ import annotations

import asyncio
import logging
import secrets
from ipaddress import ip_address

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from onsembl.api.http.client_address import client_address
from onsembl.api.http.endpoint import bearer
from onsembl.api.http.problems import Problem, unauthenticated
from onsembl.api.services import Services
from onsembl.sql import stats, vendor_limits
from onsembl.sql.database import DATABASE_ERRORS
from onsembl.sql.stats import Unfinished
from onsembl.sql.vendor_limits import LimitFigures

logger = logging.getLogger(__name__)

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
    limits = await _limit_figures(services)
    services.state_metrics.unfinished = await count_unfinished(services)  # and nothing awaits until it is read
    services.state_metrics.limits = limits
    return Response(generate_latest(services.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _limit_figures(services: Services) -> LimitFigures | None:
    """The agents' limits of their vendors; None while the database is unavailable."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS), services.pool.connection(DATABASE_SECONDS) as conn:
            return await vendor_limits.figures(conn)
    except (*DATABASE_ERRORS, TimeoutError) as error:
        logger.warning("The limits could not be read: %s", error, extra={"action": "statistics_failed"})
        return None


async def count_unfinished(services: Services) -> Unfinished | None:
    """The numbers of unfinished commands; None while the database is unavailable."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS), services.pool.connection(DATABASE_SECONDS) as conn:
            return await stats.unfinished(conn)
    except (*DATABASE_ERRORS, TimeoutError) as error:
        logger.warning("The queue could not be counted: %s", error, extra={"action": "statistics_failed"})
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
