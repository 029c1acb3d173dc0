"""Processes of `onsembl worker`, and their jobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from support.forked import ForkedProcess, fork_onsembl

from onsembl.sql.database import connect


@asynccontextmanager
async def worker_running(database_url: str, *arguments: str) -> AsyncGenerator[ForkedProcess]:
    """Run a worker until the block ends."""
    process = await fork_onsembl("worker", "--database-url", database_url, *arguments)
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
