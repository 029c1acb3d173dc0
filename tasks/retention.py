"""Periodic tidying: finished jobs are of no use after a day; the archive and the audit log are kept for some time."""

from __future__ import annotations

from procrastinate import JobContext

from onsembl.sql import archive, audit, audit_chain, idempotency_keys, schedules, search
from onsembl.tasks.context import services_of

KEEP_JOBS_HOURS = 24


AUDIT_DAYS = 30
KEEP_RUNS_DAYS = 90
ARCHIVE_DAYS_AHEAD = 3


async def keep_archive(context: JobContext, timestamp: int) -> None:
    """Make the archive's partitions of the days to come, and drop the days that are past their time."""
    services = services_of(context)
    async with services.pool.connection() as conn:
        await archive.make_partitions(conn, ARCHIVE_DAYS_AHEAD)
    # Of its own: a reader may keep a partition from being dropped, and then it is tried again.
    async with services.pool.connection() as conn:
        for dropped in await archive.drop_partitions(conn, services.archive_days):
            await audit.write(conn, audit.Event(actor=audit.SYSTEM, action="archive.dropped", target_id=dropped))


async def keep_audit_log(context: JobContext, timestamp: int) -> None:
    """Make the audit log's partitions of the days to come, and drop the days that are past their time. The dropping is
    in the log itself."""
    async with services_of(context).pool.connection() as conn:
        for dropped in await audit_chain.keep_partitions(conn, AUDIT_DAYS):
            await audit.write(conn, audit.Event(actor=audit.SYSTEM, action="audit.dropped", target_id=dropped))


async def keep_search_text(context: JobContext, timestamp: int) -> None:
    """Make the search's partitions of the days to come, and drop the days that the archive has dropped."""
    async with services_of(context).pool.connection() as conn:
        await search.keep_partitions(conn)


async def remove_old_jobs(context: JobContext, timestamp: int) -> None:
    """Remove jobs that ended more than a day ago, whatever their end, the keys of requests as old, and what is
    known of schedules' firings of long ago."""
    async with services_of(context).pool.connection() as conn:
        await idempotency_keys.forget(conn, KEEP_JOBS_HOURS)
        await schedules.forget_runs(conn, KEEP_RUNS_DAYS)
    await context.app.job_manager.delete_old_jobs(
        nb_hours=KEEP_JOBS_HOURS, include_failed=True, include_cancelled=True, include_aborted=True
    )
