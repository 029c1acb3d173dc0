"""Agents that ask to be let in, and a person who decides: the device authorization grant of RFC 8628."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.api.auth.agent_tokens import AgentTokens, end_credentials
from onsembl.api.http.problems import Problem
from onsembl.protocol.enrolment import (
    POLL_SECONDS,
    SLOW_DOWN_SECONDS,
    AgentCredentials,
    DeviceErrorCode,
    Enrolment,
)
from onsembl.protocol.ids import AgentId, OperatorId
from onsembl.protocol.rates import network_of
from onsembl.sql import agents, audit, device_requests
from onsembl.sql.audit import Actor
from onsembl.sql.database import Connection, Pool

USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""RFC 8628 §6.1: no vowels, so no words, and nothing that looks like a digit; eight of them are 34 bits."""
EXPIRES_SECONDS = 900.0
MOST_OPEN = 100
MOST_OPEN_AT_ADDRESS = 10
REPEAT_SECONDS = 300.0
"""How long the credentials are given again to an agent that did not get the answer."""


class DeviceError(Exception):
    """An answer of RFC 8628 §3.5, by its code."""

    def __init__(self, code: DeviceErrorCode, description: str) -> None:
        super().__init__(description)
        self.code = code


@dataclass(frozen=True, slots=True)
class Opened:
    """What the agent is told of its request."""

    device_code: str
    user_code: str


def spoken(user_code: str) -> str:
    """As people read it: BCDF-GHJK."""
    return f"{user_code[:4]}-{user_code[4:]}"


def understood(text: str) -> str:
    """What a person typed, as it is kept: case, hyphens and spaces do not matter."""
    return "".join(letter for letter in text.upper() if letter.isalnum())


class DeviceFlow:
    """Requests in the database; any instance answers the agent."""

    def __init__(self, pool: Pool, tokens: AgentTokens) -> None:
        self._pool = pool
        self._tokens = tokens

    async def open(self, request: Enrolment, address: str) -> Opened:
        """An agent asks to be let in. Raises DeviceError when too many wait already, there or in all."""
        opened = Opened(
            "ond_" + secrets.token_urlsafe(32), "".join(secrets.choice(USER_CODE_LETTERS) for _ in range(8))
        )
        async with self._pool.connection() as conn:
            added = await device_requests.add(
                conn,
                device_code=opened.device_code,
                user_code=opened.user_code,
                name=request.name,
                kind=request.kind,
                mode=request.mode,
                host=request.host,
                platform=request.platform,
                address=address,
                network=network_of(address),
                expires_in=EXPIRES_SECONDS,
                poll_seconds=POLL_SECONDS,
                most_open=MOST_OPEN,
                most_open_at_network=MOST_OPEN_AT_ADDRESS,
            )
            if not added:
                raise DeviceError(
                    DeviceErrorCode.TEMPORARILY_UNAVAILABLE, "Too many agents wait to be let in; try again later."
                )
            actor = Actor("anonymous", name=request.name, address=address)
            await audit.write(conn, _event(actor, "device.requested", request.name, request.host, request.kind))
        return opened

    async def poll(self, device_code: str, address: str) -> AgentCredentials:
        """What was decided. Raises DeviceError while nothing was, or when the agent is not let in."""
        refusal: DeviceError
        async with self._pool.connection() as conn:
            row = await device_requests.poll(conn, device_code)
            if row is None:
                raise DeviceError(DeviceErrorCode.INVALID_GRANT, "The device code is not known.")
            if row["state"] == "approved" and (row["taken_ago"] is None or row["taken_ago"] < REPEAT_SECONDS):
                return await self._give(conn, row, address)
            refusal = _refusal(row)
            slower = SLOW_DOWN_SECONDS if refusal.code is DeviceErrorCode.SLOW_DOWN else 0.0
            await device_requests.polled(conn, row["id"], row["poll_seconds"] + slower)
        raise refusal

    async def _give(self, conn: Connection, row: DictRow, address: str) -> AgentCredentials:
        agent_id = AgentId(row["agent_id"])
        if row["taken_ago"] is not None:
            await end_credentials(conn, agent_id)  # the answer was lost, and what was in it is nobody's
        await device_requests.taken(conn, row["id"])
        actor = Actor("agent", agent_id, row["name"], address)
        await audit.write(conn, _event(actor, "agent.enrolled", str(agent_id), row["host"], row["kind"]))
        return await self._tokens.begin(conn, agent_id, row["name"])

    async def approve(self, request_id: UUID, actor: Actor, chosen: str | None, *, replace: bool) -> DictRow:
        """Let the agent in, under the name it asked for or another one that was chosen. `replace`: as the agent of that
        name that there is, whose credentials end. Raises Problem 404 or 409."""
        async with self._pool.connection() as conn:
            row = await _open(conn, request_id)
            name: str = chosen or row["name"]
            agent = await agents.create(
                conn, name=name, kind=row["kind"], mode=row["mode"], host=row["host"], platform=row["platform"]
            )
            if agent is None:
                agent = await agents.named(conn, name)
                if agent is None or not replace:
                    raise Problem(409, f"There is an agent named {name!r} already.", replaceable=True)
                await end_credentials(conn, AgentId(agent["id"]))
            decided = await device_requests.decide(conn, request_id, "approved", _operator(actor), agent["id"], name)
            await audit.write(conn, _event(actor, "device.approved", str(agent["id"]), row["host"], row["kind"]))
            return decided

    async def refuse(self, request_id: UUID, actor: Actor) -> DictRow:
        """Turn the agent away. Raises Problem 404 or 409."""
        async with self._pool.connection() as conn:
            row = await _open(conn, request_id)
            decided = await device_requests.decide(conn, request_id, "refused", _operator(actor), None, row["name"])
            await audit.write(conn, _event(actor, "device.refused", row["name"], row["host"], row["kind"]))
            return decided


def _operator(actor: Actor) -> OperatorId:
    assert actor.id is not None, "an admin decides"
    return OperatorId(actor.id)


async def _open(conn: Connection, request_id: UUID) -> DictRow:
    row = await device_requests.lock(conn, request_id)
    if row is None:
        raise Problem(404, "There is no such request.")
    if not row["open"]:
        state = row["state"] if row["state"] != "waiting" else "past its time"
        raise Problem(409, f"This request is {state} already.")
    return row


def _refusal(row: DictRow) -> DeviceError:
    if row["state"] == "refused":
        return DeviceError(DeviceErrorCode.ACCESS_DENIED, "An operator has refused.")
    if row["state"] == "approved":
        return DeviceError(DeviceErrorCode.INVALID_GRANT, "The credentials were given out already.")
    if row["expired"]:
        return DeviceError(DeviceErrorCode.EXPIRED_TOKEN, "Nobody has decided in time.")
    if row["hurried"]:
        return DeviceError(DeviceErrorCode.SLOW_DOWN, "Too soon: wait five seconds longer between polls from now on.")
    return DeviceError(DeviceErrorCode.AUTHORIZATION_PENDING, "Nobody has decided yet.")


def _event(actor: Actor, action: str, target: str, host: str, kind: str) -> audit.Event:
    return audit.Event(
        actor=actor, action=action, target_kind="agent", target_id=target, detail={"host": host, "kind": kind}
    )
