"""The statistics of all instances for the dashboard."""

from __future__ import annotations

import time

from psycopg.rows import DictRow

from onsembl.api.database_state import DatabaseState
from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import NoBody
from onsembl.api.instances.statistics import all_statistics
from onsembl.api.routes.metrics import count_unfinished, read_briefly
from onsembl.api.routes.stats_models import DatabaseStatistics, QueueStatistics, Statistics, UnfinishedCommands
from onsembl.api.services import Services
from onsembl.protocol.statistics import ProcessStatistics, summed
from onsembl.sql import instances
from onsembl.sql.stats import Unfinished


async def read_statistics(call: Call[NoBody]) -> Statistics:
    services = call.services
    rows = await _read_instances(services)
    answers = await all_statistics(services, rows)
    total = summed([answer.statistics for answer in answers.values()])
    unfinished = await count_unfinished(services)
    return Statistics(
        instances=sorted(answers),
        at=time.time(),
        commands=_commands(unfinished) if unfinished is not None else None,
        database=_database(services.database),
        **{name: getattr(total, name) for name in ProcessStatistics.__struct_fields__},
    )


async def _read_instances(services: Services) -> list[DictRow]:
    dead_after = services.settings.instance_dead_after
    return await read_briefly(services, lambda conn: instances.all_instances(conn, dead_after), "The instances") or []


def _database(state: DatabaseState) -> DatabaseStatistics | None:
    if state.size is None:
        return None
    return DatabaseStatistics(size=state.size, limit=state.limit, read_only=state.read_only)


def _commands(unfinished: Unfinished) -> UnfinishedCommands:
    return UnfinishedCommands(
        queued=unfinished.states["queued"],
        dispatched=unfinished.states["dispatched"],
        running=unfinished.states["running"],
        queue=[
            QueueStatistics(priority=priority, depth=waiting.depth, oldest=waiting.oldest)
            for priority, waiting in sorted(unfinished.waiting.items())
        ],
    )


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/statistics",
        old_paths=("/v1/figures",),
        handler=read_statistics,
        summary="Read the statistics of all instances",
        answer=Statistics,
    ),
]
