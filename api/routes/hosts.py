"""Hosts as admins see them: machines on which an agent can be started, because their owners allow it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from msgspec import Meta
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, Body, NoBody, Time
from onsembl.api.http.problems import Problem, found
from onsembl.protocol.field_types import Name
from onsembl.protocol.hosting import START_SECONDS, HostFolder, StartKind
from onsembl.protocol.states import Role
from onsembl.sql import agents, audit, halts, hosts

MAX_WAITING = 8
"""How many requests may wait for one host."""


class Host(Answer, frozen=True, kw_only=True):
    """A machine whose owner allows agents of these kinds below these folders, at most `max_agents` at a time."""

    id: UUID
    name: str
    machine: str
    platform: str
    kinds: list[str]
    folders: list[str]
    max_agents: int
    running: int
    """How many agents it runs."""
    connected: bool
    created_at: Time


class Hosts(Answer, frozen=True, kw_only=True):
    """All hosts, by name."""

    hosts: list[Host]


class NewStart(Body, frozen=True, kw_only=True):
    """An agent to start on a host: its name, its kind and its working folder."""

    name: Name
    kind: StartKind
    folder: Annotated[HostFolder, Meta(description="A folder that the host allows, or one below it.")]


class StartedAgent(Answer, frozen=True, kw_only=True):
    """An agent that a host has enrolled and started. It is online once it has connected."""

    id: UUID
    """The request's."""
    agent_id: UUID | None
    """Null for an agent that was deleted meanwhile."""
    host: str
    name: str
    kind: str
    folder: str


async def list_hosts(call: Call[NoBody]) -> dict[str, list[DictRow]]:
    async with call.services.pool.connection() as conn:
        return {"hosts": await hosts.list_hosts(conn)}


async def delete_host(call: Call[NoBody]) -> DictRow:
    """The host's program ends, and with it the agents that it runs; their rows stay."""
    async with call.services.pool.connection() as conn:
        row = found(await hosts.delete(conn, call.id("host_id")), "host")
        await audit.write(conn, _event(call, "host.deleted", row, {}))
        await hosts.notify(conn)
    return row


async def start_agent(call: Call[NewStart]) -> StartedAgent:
    """Waits until the host has started the agent or refused."""
    body, changes = call.body, call.services.host_requests.changes
    async with call.services.pool.connection() as conn:
        host = found(await hosts.get(conn, call.id("host_id")), "host")
        if await halts.in_force(conn) is not None:
            raise Problem(409, "The fleet is stopped: no agent is started until the emergency stop is lifted.")
        if not host["connected"]:
            raise Problem(409, f"The host {host['name']} is not connected.")
        if await agents.named(conn, body.name) is not None:
            raise Problem(409, f"There is already an agent named {body.name!r}.")
        if len(await hosts.waiting(conn, host["id"])) >= MAX_WAITING:
            raise Problem(409, f"Too many requests wait for {host['name']}. Try again.")
        start = await hosts.request_start(conn, host["id"], name=body.name, kind=body.kind, folder=body.folder)
        detail = {"request_id": str(start["id"]), "name": body.name, "kind": body.kind, "folder": body.folder}
        await audit.write(conn, _event(call, "host.start_requested", host, detail))
        await hosts.notify(conn)
    start = await _concluded(call, start, changes)
    match start["state"]:
        case "started" | "ended":
            return StartedAgent(
                id=start["id"],
                agent_id=start["agent_id"],
                host=host["name"],
                name=start["name"],
                kind=start["kind"],
                folder=start["folder"],
            )
        case "refused":
            raise Problem(403, f"{host['name']} refuses: {start['reason']}")
        case "failed":
            raise Problem(503, f"{host['name']} could not start the agent: {start['reason']}")
        case "expired":
            raise Problem(504, f"{host['name']} did not answer in time. Nothing was started.")
        case _:
            raise Problem(504, f"{host['name']} has enrolled the agent, and has not said yet that it runs.")


async def _concluded(call: Call[NewStart], start: DictRow, changes: int) -> DictRow:
    """The request when its host has concluded it, or the time for it is over. Raises Problem 404 if the host was
    deleted meanwhile."""
    requests, deadline = call.services.host_requests, time.monotonic() + START_SECONDS
    while start["state"] in ("requested", "enrolled"):
        left = deadline - time.monotonic()
        if left > 0:
            await requests.wait(changes, left)
        changes = requests.changes
        async with call.services.pool.connection() as conn:
            if left <= 0:
                await hosts.expire(conn, start["id"])
            start = found(await hosts.get_start(conn, start["id"]), "host")
        if left <= 0:
            break
    return start


def _event(
    call: Call[NewStart] | Call[NoBody], action: str, host: DictRow, detail: Mapping[str, object]
) -> audit.Event:
    return audit.Event(
        actor=call.actor,
        action=action,
        target_kind="host",
        target_id=str(host["id"]),
        detail={"host": host["name"], **detail},
    )


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/hosts",
        handler=list_hosts,
        summary="List the machines on which agents can be started, by name",
        answer=Hosts,
        role=Role.ADMIN,
    ),
    Endpoint(
        method="DELETE",
        path="/v1/hosts/{host_id:uuid}",
        handler=delete_host,
        summary="Delete a host: its secret is revoked, and its agents end",
        answer=Host,
        role=Role.ADMIN,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/hosts/{host_id:uuid}/agents",
        handler=start_agent,
        summary="Enrol and start an agent on a host",
        answer=StartedAgent,
        role=Role.ADMIN,
        body=NewStart,
        status=201,
        problems=(403, 404, 409, 503, 504),
    ),
]
