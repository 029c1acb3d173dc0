"""The Procrastinate application of a worker: all of our tasks, on the queue in Postgres."""

from __future__ import annotations

from procrastinate import App

from onsembl.fleet.listener import Listener
from onsembl.sql.commands import RUN_COMMAND
from onsembl.tasks.connector import SharedConnector
from onsembl.tasks.retention import keep_archive, keep_audit_log, keep_search_text, remove_old_jobs
from onsembl.tasks.run_command import DeliveryRetry, run_command
from onsembl.tasks.schedules import fire_schedules

KEEP_AUDIT_LOG = "onsembl:keep_audit_log"
REMOVE_OLD_JOBS = "onsembl:remove_old_jobs"
KEEP_SEARCH_TEXT = "onsembl:keep_search_text"
KEEP_ARCHIVE = "onsembl:keep_archive"
FIRE_SCHEDULES = "onsembl:fire_schedules"
HOURLY = "17 * * * *"
MINUTELY = "* * * * *"
PERIODIC = {
    **dict.fromkeys((REMOVE_OLD_JOBS, KEEP_AUDIT_LOG, KEEP_SEARCH_TEXT, KEEP_ARCHIVE), HOURLY),
    FIRE_SCHEDULES: MINUTELY,
}
"""The scheduled tasks, each with its cron expression in UTC."""


def new_app(listener: Listener, *, schedules: bool = True) -> App:
    """An application for one run of a worker; it is opened on the worker's pool. Without `schedules`, no job is queued
    for them every minute."""
    app = App(connector=SharedConnector(listener))
    app.task(name=RUN_COMMAND, pass_context=True, retry=DeliveryRetry())(run_command)
    # No queueing locks here: under row-level security, Postgres does not name the key of a conflict. Procrastinate then
    # reports an internal error, and the worker would stop whenever the previous job of the task still waits.
    hourly = app.periodic(cron=HOURLY)
    hourly(app.task(name=REMOVE_OLD_JOBS, lock=REMOVE_OLD_JOBS, pass_context=True)(remove_old_jobs))
    hourly(app.task(name=KEEP_AUDIT_LOG, lock=KEEP_AUDIT_LOG, pass_context=True)(keep_audit_log))
    hourly(app.task(name=KEEP_SEARCH_TEXT, lock=KEEP_SEARCH_TEXT, pass_context=True)(keep_search_text))
    hourly(app.task(name=KEEP_ARCHIVE, lock=KEEP_ARCHIVE, pass_context=True)(keep_archive))
    fire = app.task(name=FIRE_SCHEDULES, pass_context=True)(fire_schedules)
    if schedules:
        app.periodic(cron=MINUTELY)(fire)
    return app
