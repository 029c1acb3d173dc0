"""The API's instances, as one of them knows them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, NoBody, Time
from onsembl.api.instances.statistics import all_statistics
from onsembl.protocol.states import Role
from onsembl.sql import instances


class Instance(Answer, frozen=True, kw_only=True):
    """An API process. One that is not `alive` has written no heartbeat for too long; its row goes when workers have
    noticed that as well."""

    id: UUID
    address: Annotated[str, Meta(description="Where the other instances reach it.")]
    started_at: Time
    heartbeat_age: Annotated[float, Meta(description="Seconds since its last heartbeat.")]
    alive: bool
    draining_since: Annotated[Time | None, Meta(description="Since when it takes no more agents and viewers.")]
    agents: Annotated[int, Meta(description="Agents whose connection it holds, by their rows.")]
    viewers: Annotated[int | None, Meta(description="Its viewers; null when it does not answer.")]
    release: Annotated[str | None, Meta(description="Its release; null when it does not answer.")]


class Instances(Answer, frozen=True, kw_only=True):
    """All instances, oldest first."""

    instances: list[Instance]


async def list_instances(call: Call[NoBody]) -> Instances:
    async with call.services.pool.connection() as conn:
        rows = await instances.all_instances(conn, call.services.settings.instance_dead_after)
    answers = await all_statistics(call.services, rows)
    found: list[Instance] = []
    for row in rows:
        answer = answers.get(row["id"])
        viewers, release = (answer.statistics.viewers, answer.release) if answer is not None else (None, None)
        found.append(Instance(**row, viewers=viewers, release=release))
    return Instances(instances=found)


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/instances",
        handler=list_instances,
        summary="List the API's instances",
        answer=Instances,
        role=Role.ADMIN,
    ),
]
