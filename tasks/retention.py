"""Periodic tidying: finished jobs are of no use after a day; the commands' rows tell the history."""

from __future__ import annotations

from procrastinate import JobContext

KEEP_JOBS_HOURS = 24


async def remove_old_jobs(context: JobContext, timestamp: int) -> None:
    """Remove jobs that ended more than a day ago, whatever their end."""
    await context.app.job_manager.delete_old_jobs(
        nb_hours=KEEP_JOBS_HOURS, include_failed=True, include_cancelled=True, include_aborted=True
    )
