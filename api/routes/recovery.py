"""The recovery after a restored backup: an admin opens it, and agents get new tokens by their recovery secrets."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, Body, NoBody, Time
from onsembl.api.http.problems import Problem
from onsembl.protocol.enrolment import AgentCredentials
from onsembl.protocol.states import Role
from onsembl.sql import audit, recovery
from onsembl.sql.database import Connection


class NewRecovery(Body, frozen=True, kw_only=True):
    """A recovery, which ends after `expires_in` seconds."""

    expires_in: Annotated[int, Meta(ge=300, le=7 * 24 * 3600)] = 24 * 3600


class RecoveredAgent(Answer, frozen=True, kw_only=True):
    """An agent that got new tokens in a recovery."""

    agent_id: UUID
    name: str
    at: Time


class Recovery(Answer, frozen=True, kw_only=True):
    """A recovery. While it is open, each agent can get new tokens by its recovery secret, once."""

    id: UUID
    open: bool
    opened_at: Time
    opened_by_name: str
    ends_at: Time
    closed_at: Time | None
    closed_by_name: str | None
    agents: list[RecoveredAgent]


class RecoveryStatus(Answer, frozen=True, kw_only=True):
    """The recovery that was opened last, or null; and the names of the agents that have no recovery secret."""

    recovery: Recovery | None
    without_secret: list[str]


async def _status(conn: Connection, row: DictRow | None) -> dict[str, object]:
    shown = {**row, "agents": await recovery.recovered(conn, row["id"])} if row is not None else None
    return {"recovery": shown, "without_secret": await recovery.without_secret(conn)}


async def open_recovery(call: Call[NewRecovery]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        row = await recovery.open_recovery(conn, call.body.expires_in, call.actor)
        if row is None:
            raise Problem(409, "A recovery is open already.")
        await audit.write(conn, _event(call, "recovery.opened", row))
        return await _status(conn, row)


async def read_recovery(call: Call[NoBody]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        return await _status(conn, await recovery.latest(conn))


async def close_recovery(call: Call[NoBody]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        row = await recovery.close(conn, call.actor)
        if row is None:
            raise Problem(409, "No recovery is open.")
        await audit.write(conn, _event(call, "recovery.closed", row))
        return await _status(conn, row)


async def recover_agent(call: Call[NoBody]) -> AgentCredentials:
    return await call.services.agent_tokens.recover(call.token, call.address)


def _event(call: Call[NewRecovery] | Call[NoBody], action: str, row: DictRow) -> audit.Event:
    return audit.Event(
        actor=call.actor,
        action=action,
        target_kind="recovery",
        target_id=str(row["id"]),
        detail={"ends_at": row["ends_at"].isoformat()},
    )


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/recovery",
        handler=open_recovery,
        summary="Open a recovery: agents that a restored backup does not know get new tokens",
        answer=RecoveryStatus,
        role=Role.ADMIN,
        body=NewRecovery,
        status=201,
        problems=(409,),
    ),
    Endpoint(
        method="GET",
        path="/v1/recovery",
        handler=read_recovery,
        summary="Read the latest recovery, and which agents came back",
        answer=RecoveryStatus,
        role=Role.ADMIN,
    ),
    Endpoint(
        method="DELETE",
        path="/v1/recovery",
        handler=close_recovery,
        summary="Close the recovery before its end",
        answer=RecoveryStatus,
        role=Role.ADMIN,
        problems=(409,),
    ),
    Endpoint(
        method="POST",
        path="/v1/agents/recover",
        handler=recover_agent,
        summary="Get new tokens for an agent while a recovery is open",
        answer=AgentCredentials,
        role=None,
        presents="an agent's recovery secret",
        problems=(403,),
    ),
]
