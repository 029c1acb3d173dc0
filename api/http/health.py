"""Health checks: whether the process is alive, and whether it can work."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from onsembl.api.http.problems import Problem
from onsembl.api.instances.drain import draining
from onsembl.api.services import Services
from onsembl.sql import write_probe
from onsembl.sql.database import DATABASE_ERRORS, Pool

READY_SECONDS = 2.0
VALID_SECONDS = 1.0
"""How long a result answers further requests, so that many probes cost the database one write."""


class Readiness:
    """Whether the database can be written. Concurrent requests share one write."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._checking = asyncio.Lock()
        self._checked_at = float("-inf")
        self._problem: str | None = None

    async def problem(self) -> str | None:
        """Why the instance is not ready; None when it is."""
        async with self._checking:
            if time.monotonic() - self._checked_at >= VALID_SECONDS:
                self._problem = await self._check()
                self._checked_at = time.monotonic()
            return self._problem

    async def _check(self) -> str | None:
        connected = False
        try:
            async with asyncio.timeout(READY_SECONDS), self._pool.connection(READY_SECONDS) as conn:
                await conn.execute("select 1")
                connected = True
                await write_probe.write(conn)
        except (*DATABASE_ERRORS, TimeoutError):
            return "The database cannot be written." if connected else "The database is not responding."
        return None


async def healthz(_request: Request) -> Response:
    """Answer as long as the event loop runs."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Answer 200 if the database can be written, and the instance is not about to stop. Raises Problem 503."""
    services: Services = request.app.state.services
    if services.drain.begun:
        raise draining()
    readiness: Readiness = request.app.state.readiness
    problem = await readiness.problem()
    if problem is not None:
        raise Problem(503, problem)
    return JSONResponse({"status": "ready"})
