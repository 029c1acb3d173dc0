"""Periodic cleanup: of finished jobs after a day, and of the archive and the audit log after their retention times."""

from __future__ import annotations

from procrastinate import JobContext

from onsembl.sql import (
    archive,
    attachments,
    audit,
    audit_chain,
    events,
    idempotency_keys,
    reports,
    schedules,
    search,
    steps,
)
from onsembl.tasks.context import services_of

KEEP_JOBS_HOURS = 24


AUDIT_DAYS = 30
KEEP_UNSENT_FILES_HOURS = 24
KEEP_RUNS_DAYS = 90
ARCHIVE_DAYS_AHEAD = 3


async def keep_archive(context: JobContext, timestamp: int) -> None:
    """Create the archive's partitions of the coming days, and drop the days whose retention time has passed; with them
    the files of prompts, those that no command has after a day, and reports that are not pinned."""
    services = services_of(context)
    async with services.pool.connection() as conn:
        await archive.make_partitions(conn, ARCHIVE_DAYS_AHEAD)
    async with services.pool.connection() as conn:
        await attachments.forget(conn, unsent_hours=KEEP_UNSENT_FILES_HOURS, days=services.archive_days)
        await reports.forget(conn, services.archive_days)
    # In a transaction of its own: a reader may prevent the drop of a partition, and the next run tries again.
    async with services.pool.connection() as conn:
        for dropped in await archive.drop_partitions(conn, services.archive_days):
            await audit.write(conn, audit.Event(actor=audit.SYSTEM, action="archive.dropped", target_id=dropped))


async def keep_audit_log(context: JobContext, timestamp: int) -> None:
    """Create the audit log's partitions of the coming days, and drop the days whose retention time has passed. The log
    records each drop. Events are kept for the same time."""
    async with services_of(context).pool.connection() as conn:
        await events.forget(conn, AUDIT_DAYS)
    async with services_of(context).pool.connection() as conn:
        for dropped in await audit_chain.keep_partitions(conn, AUDIT_DAYS):
            await audit.write(conn, audit.Event(actor=audit.SYSTEM, action="audit.dropped", target_id=dropped))


async def keep_search_text(context: JobContext, timestamp: int) -> None:
    """Create the partitions of the search index and of steps for the coming days, and drop the days that the archive
    has dropped."""
    pool = services_of(context).pool
    async with pool.connection() as conn:
        await search.keep_partitions(conn)
    async with pool.connection() as conn:
        await steps.keep_partitions(conn)


async def remove_old_jobs(context: JobContext, timestamp: int) -> None:
    """Remove jobs that ended more than a day ago, in any state, idempotency keys of the same age, and old runs of
    schedules."""
    async with services_of(context).pool.connection() as conn:
        await idempotency_keys.forget(conn, KEEP_JOBS_HOURS)
        await schedules.forget_runs(conn, KEEP_RUNS_DAYS)
    await context.app.job_manager.delete_old_jobs(
        nb_hours=KEEP_JOBS_HOURS, include_failed=True, include_cancelled=True, include_aborted=True
    )
