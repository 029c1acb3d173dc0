"""Enrolment by device code: a machine asks, an operator decides (the device authorization grant of RFC 8628)."""

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
"""No vowels, which could form words, and no letter that looks like a digit (RFC 8628 §6.1). Eight are 34 bits."""
EXPIRES_SECONDS = 900.0
MAX_OPEN = 100
MAX_OPEN_PER_ADDRESS = 10
REPEAT_SECONDS = 300.0
"""How long credentials are issued again to an agent that did not receive the answer."""


class DeviceError(Exception):
    """An error of the device flow, with its code (RFC 8628 §3.5)."""

    def __init__(self, code: DeviceErrorCode, description: str) -> None:
        super().__init__(description)
        self.code = code


@dataclass(frozen=True, slots=True)
class DeviceCodes:
    """The codes of a new request: the agent shows the user code and keeps the device code secret."""

    device_code: str
    user_code: str


def format_user_code(user_code: str) -> str:
    """The user code as people read it: BCDF-GHJK."""
    return f"{user_code[:4]}-{user_code[4:]}"


def parse_user_code(text: str) -> str:
    """The user code that a person typed, as it is stored. Case, hyphens and spaces do not matter."""
    return "".join(letter for letter in text.upper() if letter.isalnum())


class DeviceFlow:
    """Opens and decides requests. They are in the database, so that any instance can answer the agent."""

    def __init__(self, pool: Pool, tokens: AgentTokens) -> None:
        self._pool = pool
        self._tokens = tokens

    async def open(self, request: Enrolment, address: str) -> DeviceCodes:
        """Open a request to enrol an agent. Raises DeviceError when too many are open, for this address or in total."""
        codes = DeviceCodes(
            "ond_" + secrets.token_urlsafe(32), "".join(secrets.choice(USER_CODE_LETTERS) for _ in range(8))
        )
        async with self._pool.connection() as conn:
            added = await device_requests.add(
                conn,
                device_code=codes.device_code,
                user_code=codes.user_code,
                name=request.name,
                kind=request.kind,
                mode=request.mode,
                host=request.host,
                platform=request.platform,
                address=address,
                network=network_of(address),
                expires_in=EXPIRES_SECONDS,
                poll_seconds=POLL_SECONDS,
                most_open=MAX_OPEN,
                most_open_at_network=MAX_OPEN_PER_ADDRESS,
            )
            if not added:
                raise DeviceError(
                    DeviceErrorCode.TEMPORARILY_UNAVAILABLE,
                    "Too many agents are waiting for approval; try again later.",
                )
            actor = Actor("anonymous", name=request.name, address=address)
            await audit.write(conn, _event(actor, "device.requested", request.name, request.host, request.kind))
        return codes

    async def poll(self, device_code: str, address: str) -> AgentCredentials:
        """The credentials of an approved agent. Raises DeviceError while the request is undecided, and when it was
        rejected or has expired."""
        error: DeviceError
        async with self._pool.connection() as conn:
            row = await device_requests.poll(conn, device_code)
            if row is None:
                raise DeviceError(DeviceErrorCode.INVALID_GRANT, "The device code is unknown.")
            if row["state"] == "approved" and (row["taken_ago"] is None or row["taken_ago"] < REPEAT_SECONDS):
                return await self._issue(conn, row, address)
            error = _error(row)
            slower = SLOW_DOWN_SECONDS if error.code is DeviceErrorCode.SLOW_DOWN else 0.0
            await device_requests.polled(conn, row["id"], row["poll_seconds"] + slower)
        raise error

    async def _issue(self, conn: Connection, row: DictRow, address: str) -> AgentCredentials:
        agent_id = AgentId(row["agent_id"])
        if row["taken_ago"] is not None:
            await end_credentials(conn, agent_id)  # the answer was lost, and with it the credentials
        await device_requests.taken(conn, row["id"])
        actor = Actor("agent", agent_id, row["name"], address)
        await audit.write(conn, _event(actor, "agent.enrolled", str(agent_id), row["host"], row["kind"]))
        return await self._tokens.begin(conn, agent_id, row["name"])

    async def approve(self, request_id: UUID, actor: Actor, chosen: str | None, *, replace: bool) -> DictRow:
        """Approve a request, under the requested name or the `chosen` one. Raises Problem 404 or 409.

        `replace`: the machine replaces the existing agent of that name; the agent's credentials are revoked.
        """
        async with self._pool.connection() as conn:
            row = await _open(conn, request_id)
            name: str = chosen or row["name"]
            agent = await agents.create(
                conn, name=name, kind=row["kind"], mode=row["mode"], host=row["host"], platform=row["platform"]
            )
            if agent is None:
                agent = await agents.named(conn, name)
                if agent is None or not replace:
                    raise Problem(409, f"There is already an agent named {name!r}.", replaceable=True)
                await end_credentials(conn, AgentId(agent["id"]))
            decided = await device_requests.decide(conn, request_id, "approved", _operator(actor), agent["id"], name)
            await audit.write(conn, _event(actor, "device.approved", str(agent["id"]), row["host"], row["kind"]))
            return decided

    async def reject(self, request_id: UUID, actor: Actor) -> DictRow:
        """Reject a request. Raises Problem 404 or 409."""
        async with self._pool.connection() as conn:
            row = await _open(conn, request_id)
            decided = await device_requests.decide(conn, request_id, "refused", _operator(actor), None, row["name"])
            await audit.write(conn, _event(actor, "device.refused", row["name"], row["host"], row["kind"]))
            return decided


_DECIDED = {
    "approved": "This request was already approved.",
    "refused": "This request was already rejected.",
    "waiting": "This request has expired.",
}


def _operator(actor: Actor) -> OperatorId:
    assert actor.id is not None, "only an admin decides"
    return OperatorId(actor.id)


async def _open(conn: Connection, request_id: UUID) -> DictRow:
    row = await device_requests.lock(conn, request_id)
    if row is None:
        raise Problem(404, "There is no such request.")
    if not row["open"]:
        raise Problem(409, _DECIDED[row["state"]])
    return row


def _error(row: DictRow) -> DeviceError:
    if row["state"] == "refused":
        return DeviceError(DeviceErrorCode.ACCESS_DENIED, "An operator has rejected the request.")
    if row["state"] == "approved":
        return DeviceError(DeviceErrorCode.INVALID_GRANT, "The credentials were already issued.")
    if row["expired"]:
        return DeviceError(DeviceErrorCode.EXPIRED_TOKEN, "The request has expired without a decision.")
    if row["hurried"]:
        return DeviceError(
            DeviceErrorCode.SLOW_DOWN, "Polled too soon: wait five seconds longer between polls from now on."
        )
    return DeviceError(DeviceErrorCode.AUTHORIZATION_PENDING, "The request is waiting for a decision.")


def _event(actor: Actor, action: str, target: str, host: str, kind: str) -> audit.Event:
    return audit.Event(
        actor=actor, action=action, target_kind="agent", target_id=target, detail={"host": host, "kind": kind}
    )
