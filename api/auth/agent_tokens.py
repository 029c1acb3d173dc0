"""Agents' credentials: a short access token, and an opaque refresh token, kept hashed, for the next of both."""

from __future__ import annotations

import secrets
import time
from fnmatch import fnmatchcase
from typing import Literal
from uuid import UUID, uuid4

from prometheus_client import Counter

from onsembl.api.auth.agent_keys import AgentKeys
from onsembl.api.auth.rate_limits import RateLimiter
from onsembl.api.http.problems import Problem, unauthenticated
from onsembl.fleet import instance_messages
from onsembl.fleet.instance_messages import InstanceMessage
from onsembl.protocol.enrolment import AgentCredentials, Enrolment
from onsembl.protocol.ids import AgentId
from onsembl.sql import agents, alerts, audit, enrolment, refresh_tokens
from onsembl.sql.database import Connection, Pool

REPEAT_SECONDS = 300.0
"""How long a used refresh token is answered again, if the answer was never used."""


class RefreshRejected(Problem):
    """The refresh token is not good; `reused` when it shows that one was stolen."""

    def __init__(self, detail: str, *, reused: bool = False) -> None:
        super().__init__(401, detail, headers={"WWW-Authenticate": "Bearer"})
        self.reused = reused


class AgentTokens:
    """Issues and exchanges agents' credentials."""

    def __init__(
        self, pool: Pool, keys: AgentKeys, refresh_seconds: float, rate_limiter: RateLimiter, refreshes: Counter
    ) -> None:
        self._pool = pool
        self._keys = keys
        self._refreshes = refreshes
        self._rate_limiter = rate_limiter
        self._refresh_seconds = refresh_seconds

    async def enrol(self, token: str, request: Enrolment, address: str) -> AgentCredentials:
        """Make an agent of whoever holds a one-time token. Raises Problem 401, 403 or 409."""
        async with self._pool.connection() as conn:
            found = await enrolment.find_token(conn, token)
            if found is None:
                raise unauthenticated("The enrolment token is not known, used up or past its time.")
            if not fnmatchcase(request.name, found["name_pattern"]):
                raise Problem(403, f"The token enrols only agents named like {found['name_pattern']!r}.")
            agent = await agents.create(
                conn,
                name=request.name,
                kind=request.kind,
                mode=request.mode,
                host=request.host,
                platform=request.platform,
            )
            if agent is None:
                raise Problem(409, f"There is an agent named {request.name!r} already.")
            await enrolment.use_token(conn, token, agent["id"])
            await audit.write(
                conn,
                audit.Event(
                    actor=audit.Actor("agent", agent["id"], request.name, address),
                    action="agent.enrolled",
                    target_kind="agent",
                    target_id=str(agent["id"]),
                    detail={"kind": request.kind, "host": request.host},
                ),
            )
            return await self.begin(conn, agent["id"], request.name)

    async def refresh(self, token: str, address: str, agent_id: AgentId | None = None) -> AgentCredentials:
        """Exchange a refresh token, once; over a connection only that of its agent, `agent_id`.

        One that comes again just after is answered again, for the answer may have been lost; one that comes again later
        is stolen, or its rightful successor was: nothing of its family is good any more. Raises RefreshRejected, and
        Problem 429 when this agent has asked too often: the token stays good.
        """
        async with self._pool.connection() as conn:
            found = await refresh_tokens.take(conn, token, REPEAT_SECONDS)
            if found is None or agent_id not in (None, found.agent_id):
                self._refreshes.labels("refused").inc()
                raise RefreshRejected("The refresh token is not known.")
            self._rate_limiter.count_refresh(found.agent_id)
            refusal = _refusal(found)
            actor = audit.Actor("agent", found.agent_id, found.agent_name, address)
            if refusal is None:
                await refresh_tokens.use(conn, token)
                await audit.write(conn, _refreshed(actor, "ok", {}))
                self._refreshes.labels("ok").inc()
                return await self._issue(conn, found.agent_id, found.agent_name, found.family, parent=token)
            if refusal.reused:
                await self._revoke(conn, found)
            await audit.write(conn, _refreshed(actor, "refused", {"reason": str(refusal)}))
        self._refreshes.labels("reused" if refusal.reused else "refused").inc()
        raise refusal

    async def begin(self, conn: Connection, agent_id: AgentId, name: str) -> AgentCredentials:
        """The first credentials of an agent that was let in; in the caller's transaction."""
        await agents.lock(conn, agent_id)
        return await self._issue(conn, agent_id, name, family=uuid4(), parent=None)

    async def log_out(self, token: str, address: str) -> None:
        """The holder of a refresh token gives up all that came of its enrolment. Raises RefreshRejected when the token
        is not known; one that is revoked already is no error (RFC 7009 §2.2)."""
        async with self._pool.connection() as conn:
            found = await refresh_tokens.take(conn, token, REPEAT_SECONDS)
            if found is None:
                raise RefreshRejected("The refresh token is not known.")
            if found.revoked:
                return  # the agent may have other credentials by now, which are not this holder's to end
            await end_credentials(conn, found.agent_id)
            await audit.write(
                conn,
                audit.Event(
                    actor=audit.Actor("agent", found.agent_id, found.agent_name, address),
                    action="agent.logged_out",
                    target_kind="agent",
                    target_id=str(found.agent_id),
                ),
            )

    async def _revoke(self, conn: Connection, found: refresh_tokens.RefreshToken) -> None:
        """Somebody else has a token of this agent: everything that came of its enrolment ends, connection included."""
        await refresh_tokens.revoke_family(conn, found.family)
        await agents.refuse_tokens_before(conn, found.agent_id, time.time())
        await alerts.raise_alert(
            conn,
            "refresh_token_reused",
            found.agent_id,
            f"A refresh token of {found.agent_name} was used twice. Its credentials are revoked: enrol it again, "
            "and find out who has read its files.",
        )
        instance_id = await agents.online_at(conn, found.agent_id)
        if instance_id is not None:
            message = InstanceMessage(op="reused", agent_id=found.agent_id)
            await instance_messages.send(conn, instance_id, message)

    async def _issue(
        self, conn: Connection, agent_id: AgentId, name: str, family: UUID, parent: str | None
    ) -> AgentCredentials:
        refresh_token = "onr_" + secrets.token_urlsafe(32)
        await refresh_tokens.add(conn, refresh_token, family, agent_id, self._refresh_seconds, parent)
        return AgentCredentials(
            agent_id=agent_id,
            name=name,
            access_token=self._keys.sign(agent_id),
            expires_in=int(self._keys.access_seconds),
            refresh_token=refresh_token,
            refresh_expires_in=int(self._refresh_seconds),
        )


async def end_credentials(conn: Connection, agent_id: AgentId) -> None:
    """Nothing that the agent holds is good any more, its connection included."""
    await agents.lock(conn, agent_id)  # what is being given to it now is given before, and ends too
    await refresh_tokens.revoke_agent(conn, agent_id)
    await agents.refuse_tokens_before(conn, agent_id, time.time())
    instance_id = await agents.online_at(conn, agent_id)
    if instance_id is not None:
        message = InstanceMessage(op="credentials_ended", agent_id=agent_id)
        await instance_messages.send(conn, instance_id, message)


def _refusal(token: refresh_tokens.RefreshToken) -> RefreshRejected | None:
    if token.disabled:
        return RefreshRejected("The agent is disabled.")
    if token.revoked:
        return RefreshRejected("The refresh token is revoked.")
    if token.superseded or (token.used and not token.repeatable):
        return RefreshRejected("The refresh token was used before; every token of its family is revoked.", reused=True)
    if token.expired:
        return RefreshRejected("The refresh token has expired.")
    return None


def _refreshed(actor: audit.Actor, outcome: Literal["ok", "refused"], detail: dict[str, object]) -> audit.Event:
    return audit.Event(
        actor=actor,
        action="agent.refresh",
        target_kind="agent",
        target_id=str(actor.id),
        outcome=outcome,
        detail=detail,
    )
