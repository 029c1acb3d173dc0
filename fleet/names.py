"""The names under which jobs are kept in the queue."""

from __future__ import annotations

RUN_COMMAND = "onsembl:run_command"
KEEP_AUDIT_LOG = "onsembl:keep_audit_log"
REMOVE_OLD_JOBS = "onsembl:remove_old_jobs"
KEEP_SEARCH_TEXT = "onsembl:keep_search_text"
KEEP_ARCHIVE = "onsembl:keep_archive"
FIRE_SCHEDULES = "onsembl:fire_schedules"
