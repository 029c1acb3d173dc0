"""What the program of a host (`onsembl agent host`) asks and reports. It presents the host's secret."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from psycopg.rows import DictRow

from onsembl.api.auth.agent_tokens import end_credentials
from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.event_stream import END_STREAM
from onsembl.api.http.models import Answer
from onsembl.api.http.problems import Problem, unauthenticated
from onsembl.api.instances.drain import draining
from onsembl.protocol.enrolment import AgentCredentials
from onsembl.protocol.hosting import (
    HELD_SECONDS,
    SUPERSEDED,
    HostConnected,
    HostCredentials,
    HostEnrolment,
    HostEpoch,
    HostOffer,
    HostPoll,
    RequestedStart,
    RequestedStarts,
    StartOutcome,
    agent_kind,
)
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import AgentMode
from onsembl.sql import agents, audit, enrolment, halts, hosts
from onsembl.sql.database import Connection

ACTIONS = {
    "refused": "host.start_refused",
    "failed": "host.start_failed",
    "started": "host.agent_started",
    "ended": "host.agent_ended",
}
"""The audit log's action for what became of a request."""


class OutcomeRecorded(Answer, frozen=True, kw_only=True):
    """The server knows what became of the request."""


async def enrol_host(call: Call[HostEnrolment]) -> HostCredentials:
    body, secret = call.body, "onh_" + secrets.token_urlsafe(32)
    async with call.services.pool.connection() as conn:
        await call.services.agent_tokens.check_enrolment(conn, call.token, body.name)
        host = await hosts.create(conn, name=body.name, machine=body.machine, platform=body.platform, secret=secret)
        if host is None:
            raise Problem(409, f"There is already a host named {body.name!r}.")
        await enrolment.use_token(conn, call.token, None)
        await audit.write(conn, _event(call, host, "host.enrolled", {"machine": body.machine}))
    return HostCredentials(host_id=host["id"], name=host["name"], secret=secret)


async def connect_host(call: Call[HostOffer]) -> HostConnected:
    body = call.body
    async with call.services.pool.connection() as conn:
        host = await hosts.connected(conn, (await _host(conn, call))["id"], body)
        if host is None:
            raise _unknown()
        allowed = {"kinds": body.kinds, "folders": body.folders, "max_agents": body.max_agents}
        await audit.write(conn, _event(call, host, "host.connected", allowed))
        await hosts.notify(conn)  # an earlier connection is over
    return HostConnected(name=host["name"], epoch=host["epoch"])


async def poll_host(call: Call[HostPoll]) -> RequestedStarts:
    """Held until there is a request, for at most ten seconds."""
    services, body = call.services, call.body
    stopping = services.drain.begun

    def stop() -> None:
        nonlocal stopping
        stopping = True
        services.host_requests.wake()

    if stopping:
        raise draining()
    call.request.scope[END_STREAM] = stop
    deadline = time.monotonic() + HELD_SECONDS
    async with services.pool.connection() as conn:
        host = await _host(conn, call)
        if not await hosts.polled(conn, host["id"], body.epoch, body.running, leaving=body.leaving):
            raise _superseded()
    while True:
        changes = services.host_requests.changes
        async with services.pool.connection() as conn:
            host = await _host(conn, call)
            if host["epoch"] != body.epoch:
                raise _superseded()
            starts = [] if body.leaving else [_requested(row) for row in await hosts.waiting(conn, host["id"])]
        left = deadline - time.monotonic()
        if starts or body.leaving or stopping or left <= 0:
            return RequestedStarts(starts=starts)
        await services.host_requests.wait(changes, left)


async def enrol_started_agent(call: Call[HostEpoch]) -> AgentCredentials:
    """The credentials are the agent's first ones, or replace those of an answer that was lost."""
    start_id, tokens = call.id("start_id"), call.services.agent_tokens
    async with call.services.pool.connection() as conn:
        host = await _host(conn, call)
        if host["epoch"] != call.body.epoch:
            raise _superseded()
        if await halts.in_force(conn) is not None:
            raise Problem(409, "The fleet is stopped: no agent is started until the emergency stop is lifted.")
        start = await hosts.take(conn, start_id, host["id"], call.body.epoch)
        if start is None:
            raise Problem(409, "The request is over.")
        if start["agent_id"] is not None:
            agent_id = AgentId(start["agent_id"])
            await end_credentials(conn, agent_id)
            return await tokens.begin(conn, agent_id, start["name"])
        kind = agent_kind(start["kind"])
        agent = await agents.create(
            conn,
            name=start["name"],
            kind=kind,
            mode=AgentMode.EXEC,
            host=host["machine"],
            platform=host["platform"],
        )
        if agent is None:
            raise Problem(409, f"There is already an agent named {start['name']!r}.")
        await hosts.enrolled(conn, start_id, AgentId(agent["id"]))
        detail = {"request_id": str(start_id), "name": start["name"], "kind": kind}
        await audit.write(conn, _event(call, host, "host.agent_enrolled", detail, agent=agent["id"]))
        return await tokens.begin(conn, agent["id"], start["name"])


async def report_start(call: Call[StartOutcome]) -> OutcomeRecorded:
    body = call.body
    async with call.services.pool.connection() as conn:
        host = await _host(conn, call)
        if host["epoch"] != body.epoch:
            raise _superseded()
        start = await hosts.conclude(conn, call.id("start_id"), host["id"], body)
        if start is not None:
            detail = {"request_id": str(start["id"]), "name": start["name"], "reason": body.reason}
            outcome = {"refused": "refused", "failed": "failed"}.get(body.state, "ok")
            event = _event(call, host, ACTIONS[body.state], detail, agent=start["agent_id"], outcome=outcome)
            await audit.write(conn, event)
            await hosts.notify(conn)
    return OutcomeRecorded()


async def _host(conn: Connection, call: Call[Any]) -> DictRow:
    """The host that presents its secret. Raises Problem 401."""
    host = await hosts.by_secret(conn, call.token)
    if host is None:
        raise _unknown()
    return host


def _unknown() -> Problem:
    return unauthenticated("The host's secret is unknown: an admin has deleted the host.")


def _superseded() -> Problem:
    return Problem(409, "The host has connected again elsewhere: this run of it is over.", type=SUPERSEDED)


def _requested(row: DictRow) -> RequestedStart:
    return RequestedStart(id=row["id"], name=row["name"], kind=row["kind"], folder=row["folder"])


def _event(
    call: Call[Any],
    host: DictRow,
    action: str,
    detail: Mapping[str, object],
    *,
    agent: object = None,
    outcome: Any = "ok",
) -> audit.Event:
    """An event of the host, about an agent if one is given."""
    return audit.Event(
        actor=audit.Actor("system", host["id"], f"host {host['name']}", call.address),
        action=action,
        target_kind="host" if agent is None else "agent",
        target_id=str(host["id"] if agent is None else agent),
        outcome=outcome,
        detail={"host": host["name"], **detail},
    )


def _endpoint(
    path: str, handler: Callable[[Call[Any]], Any], summary: str, answer: type[Any], body: type[Any], **options: Any
) -> Endpoint:
    options = {"presents": "a host's secret", **options}
    return Endpoint(
        method="POST", path=path, handler=handler, summary=summary, answer=answer, body=body, role=None, **options
    )


ENDPOINTS = [
    _endpoint(
        "/v1/hosts/enrol",
        enrol_host,
        "Enrol a host",
        HostCredentials,
        HostEnrolment,
        presents="a one-time enrolment token",
        status=201,
        problems=(403, 409),
    ),
    _endpoint(
        "/v1/host/connection", connect_host, "Connect a host, with what its owner allows", HostConnected, HostOffer
    ),
    _endpoint(
        "/v1/host/requests",
        poll_host,
        "Wait for requests to start an agent",
        RequestedStarts,
        HostPoll,
        problems=(409, 503),
    ),
    _endpoint(
        "/v1/host/requests/{start_id:uuid}/enrol",
        enrol_started_agent,
        "Enrol the agent of a request",
        AgentCredentials,
        HostEpoch,
        problems=(409,),
    ),
    _endpoint(
        "/v1/host/requests/{start_id:uuid}/outcome",
        report_start,
        "Report what became of a request",
        OutcomeRecorded,
        StartOutcome,
        problems=(409,),
    ),
]
