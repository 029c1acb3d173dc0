"""`onsembl worker` in processes of their own, and the jobs that they have."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from onsembl.sql.database import connect


@asynccontextmanager
async def worker_running(database_url: str, *arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """One, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "onsembl.cli.main", "worker", "--database-url", database_url, *arguments)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def job_of(database_url: str, command: dict) -> dict | None:
    """The job that runs this command."""
    async with await connect(database_url) as conn:
        cursor = await conn.execute(
            "select j.status, j.attempts, j.worker_id from procrastinate_jobs j join commands c on c.job_id = j.id"
            " where c.id = %s",
            [command["id"]],
        )
        return await cursor.fetchone()
