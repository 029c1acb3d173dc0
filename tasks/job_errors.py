"""Keeping why a job failed, beside the queue, which only keeps that it did."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import psycopg
from procrastinate import JobContext
from procrastinate.exceptions import JobAborted
from procrastinate.worker import Worker
from psycopg_pool import PoolTimeout

from onsembl.sql import jobs
from onsembl.tasks.run_command import services_of

logger = logging.getLogger(__name__)

MAX_CHARACTERS = 2000


async def note_errors(call_next: Callable[[], Awaitable[object]], context: JobContext, _worker: Worker) -> object:
    """Around every job: what it raises is kept, and goes on. An abort that was asked for is no error."""
    try:
        return await call_next()
    except JobAborted:
        raise
    except Exception as error:
        await _note(context, f"{type(error).__name__}: {error}".replace("\0", "")[:MAX_CHARACTERS])
        raise


async def _note(context: JobContext, text: str) -> None:
    job_id = context.job.id
    assert job_id is not None, "a job that runs is in the table"
    try:
        async with services_of(context).statements.connection() as conn:
            await jobs.note_error(conn, job_id, text)
    except (psycopg.Error, PoolTimeout) as error:
        logger.warning(
            "Why a job failed could not be kept: %s", error, extra={"action": "job_error_lost", "job_id": job_id}
        )
