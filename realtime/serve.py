"""The stand-in served alone: a process that plays a hosted Supabase project."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from onsembl.realtime.standin import Standin


def create_project_app(standin: Standin) -> Starlette:
    """An application with nothing but `/auth/v1` and `/realtime/v1`, which starts and stops with the server."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        await standin.start()
        try:
            yield
        finally:
            await standin.stop()

    return Starlette(routes=standin.routes, lifespan=lifespan)
