"""What every job needs: connections, the dispatcher, the watch over commands and the metrics of its worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from procrastinate import JobContext

from onsembl.fleet.instance_messages import Dispatcher
from onsembl.sql.database import Pool
from onsembl.tasks.metrics import JobMetrics
from onsembl.tasks.watch import CommandWatch

ACCEPT_SECONDS = 10.0
"""How long an online agent may take to accept an offer."""
ARCHIVE_DAYS = 30
"""How many days the terminals' recordings are kept."""


@dataclass(frozen=True, slots=True)
class JobServices:
    """The services of a worker, shared by its jobs."""

    pool: Pool
    statements: Pool
    """For single statements: each is a transaction."""
    dispatcher: Dispatcher
    watch: CommandWatch
    metrics: JobMetrics
    accept_seconds: float = ACCEPT_SECONDS
    archive_days: int = ARCHIVE_DAYS


def services_of(context: JobContext) -> JobServices:
    """The services of the worker that runs this job."""
    return cast("JobServices", context.additional_context["services"])  # pyright: ignore[reportUnknownMemberType]
