"""The services that every job uses: connections, the dispatcher, the watch over commands and the worker's metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from procrastinate import JobContext

from onsembl.fleet.instance_messages import Dispatcher
from onsembl.sql.database import Pool
from onsembl.tasks.metrics import JobMetrics
from onsembl.tasks.watch import CommandWatch

ACCEPT_SECONDS = 10.0
"""How long an online agent may take to accept an offer, in seconds."""
ARCHIVE_DAYS = 30
"""How many days terminal recordings are kept."""


@dataclass(frozen=True, slots=True)
class JobServices:
    """The services of a worker, shared by its jobs."""

    pool: Pool
    statements: Pool
    """Connections for single statements, each its own transaction."""
    dispatcher: Dispatcher
    watch: CommandWatch
    metrics: JobMetrics
    accept_seconds: float = ACCEPT_SECONDS
    archive_days: int = ARCHIVE_DAYS


def services_of(context: JobContext) -> JobServices:
    """The services of the worker that runs this job."""
    return cast("JobServices", context.additional_context["services"])  # pyright: ignore[reportUnknownMemberType]
