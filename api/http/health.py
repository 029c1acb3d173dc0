"""Health checks: whether the process is alive, and whether it can work."""

from __future__ import annotations

import asyncio

import psycopg
from psycopg_pool import PoolTimeout
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from onsembl.api.http.problems import Problem
from onsembl.api.services import Services

READY_SECONDS = 2.0


async def healthz(_request: Request) -> Response:
    """Answer as long as the event loop runs."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Answer 200 if the database responds. Raises Problem 503."""
    services: Services = request.app.state.services
    try:
        async with asyncio.timeout(READY_SECONDS), services.pool.connection(READY_SECONDS) as conn:
            await conn.execute("select 1")
    except (psycopg.Error, PoolTimeout, TimeoutError) as error:
        raise Problem(503, "The database is not responding.") from error
    return JSONResponse({"status": "ready"})
