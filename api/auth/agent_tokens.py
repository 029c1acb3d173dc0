"""Agents' credentials: a short-lived access token, and an opaque refresh token, stored hashed, for the next pair."""

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
from onsembl.protocol.enrolment import RECOVERY_CLOSED, TOKEN_UNKNOWN, AgentCredentials, Enrolment
from onsembl.protocol.ids import AgentId
from onsembl.sql import agents, alerts, audit, enrolment, recovery, refresh_tokens
from onsembl.sql.database import Connection, Pool

RECOVERY_POLL_SECONDS = 30
"""How long agents wait before they ask again whether a recovery is open."""


class RefreshRejected(Problem):
    """The refresh token is not valid. `reused` is true when its reuse shows that a token was stolen."""

    def __init__(self, detail: str, *, reused: bool = False, **extra: str) -> None:
        super().__init__(401, detail, headers={"WWW-Authenticate": "Bearer"}, **extra)
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
        """Enrol an agent with a one-time token. Raises Problem 401, 403 or 409."""
        async with self._pool.connection() as conn:
            await self.check_enrolment(conn, token, request.name)
            agent = await agents.create(
                conn,
                name=request.name,
                kind=request.kind,
                mode=request.mode,
                host=request.host,
                platform=request.platform,
            )
            if agent is None:
                raise Problem(409, f"There is already an agent named {request.name!r}.")
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

    async def check_enrolment(self, conn: Connection, token: str, name: str) -> None:
        """Check that a one-time token enrols this name, and lock it until the transaction ends. Raises Problem 401 and
        403."""
        found = await enrolment.find_token(conn, token)
        if found is None:
            raise unauthenticated("The enrolment token is unknown, used or expired.")
        if not fnmatchcase(name, found["name_pattern"]):
            raise Problem(403, f"This token only enrols agents whose name matches {found['name_pattern']!r}.")

    async def refresh(
        self, token: str, address: str, agent_id: AgentId | None = None, recovery_hash: str | None = None
    ) -> AgentCredentials:
        """Exchange a refresh token once; over an agent's connection, only a token of that agent, `agent_id`.

        The answer has a new recovery secret if the agent's has another hash than `recovery_hash`, which is None for an
        agent that cannot keep one.

        A token that is used again is answered again while none of its successors was used, since the answer may have
        been lost, and its agent may have been away since. Otherwise it was stolen, or a successor was: every token of
        its family is then revoked. Raises RefreshRejected, and Problem 429 if the agent refreshes too often; the token
        then stays valid.
        """
        async with self._pool.connection() as conn:
            found = await refresh_tokens.take(conn, token)
            if found is None or agent_id not in (None, found.agent_id):
                self._refreshes.labels("refused").inc()
                raise RefreshRejected("The refresh token is unknown.", type=TOKEN_UNKNOWN)
            self._rate_limiter.count_refresh(found.agent_id)
            rejection = _rejection(found)
            actor = audit.Actor("agent", found.agent_id, found.agent_name, address)
            if rejection is None:
                await refresh_tokens.use(conn, token)
                await audit.write(conn, _refreshed(actor, "ok", {}))
                self._refreshes.labels("ok").inc()
                secret = None
                if recovery_hash is not None and not await recovery.has_secret(
                    conn, found.agent_id, bytes.fromhex(recovery_hash)
                ):
                    secret = await _new_secret(conn, found.agent_id)
                return await self._issue(conn, found.agent_id, found.agent_name, found.family, token, secret)
            if rejection.reused:
                await self._revoke(conn, found)
            await audit.write(conn, _refreshed(actor, "refused", {"reason": str(rejection)}))
        self._refreshes.labels("reused" if rejection.reused else "refused").inc()
        raise rejection

    async def begin(self, conn: Connection, agent_id: AgentId, name: str) -> AgentCredentials:
        """The first credentials of an agent that was enrolled; in the caller's transaction."""
        await agents.lock(conn, agent_id)
        return await self._issue(conn, agent_id, name, uuid4(), None, await _new_secret(conn, agent_id))

    async def recover(self, secret: str, address: str) -> AgentCredentials:
        """New credentials for the agent with this recovery secret, once in each recovery.

        The secret works again while the credentials were not used, since the answer may have been lost. Its earlier
        tokens are revoked. Raises Problem 401, 403 when no recovery is open, and 429.
        """
        async with self._pool.connection() as conn:
            found = await recovery.take(conn, secret)
            if found is None:
                raise unauthenticated("The recovery secret is unknown.")
            if found.disabled:
                raise unauthenticated("The agent is disabled.")
            opened = await recovery.latest(conn)
            if opened is None or not opened["open"]:
                raise Problem(
                    403,
                    "The server does not know this agent's tokens, and no recovery is open. An admin can open one.",
                    headers={"Retry-After": str(RECOVERY_POLL_SECONDS)},
                    type=RECOVERY_CLOSED,
                )
            self._rate_limiter.count_refresh(found.agent_id)
            actor = audit.Actor("agent", found.agent_id, found.name, address)
            if not await recovery.came_back(conn, opened["id"], found.agent_id):
                await refresh_tokens.revoke_agent(conn, found.agent_id)
                await agents.refuse_tokens_before(conn, found.agent_id, time.time())
                family = uuid4()
                await recovery.record(conn, opened["id"], found.agent_id, family)
                await audit.write(conn, _recovered(actor, "ok", opened["id"]))
                return await self._issue(conn, found.agent_id, found.name, family, None)
            await audit.write(conn, _recovered(actor, "refused", opened["id"]))
            await alerts.raise_alert(
                conn,
                "recovery_secret_reused",
                found.agent_id,
                f"The recovery secret of {found.name} was used twice in one recovery. If its machine was not restored "
                "from a copy, the secret was stolen: disable the agent, and enrol it again.",
            )
        raise unauthenticated("The recovery secret was used in this recovery before.")

    async def log_out(self, token: str, address: str) -> None:
        """Revoke all credentials of the agent that holds this refresh token. Raises RefreshRejected when the token is
        unknown; a token that is revoked already is no error (RFC 7009 §2.2)."""
        async with self._pool.connection() as conn:
            found = await refresh_tokens.take(conn, token)
            if found is None:
                raise RefreshRejected("The refresh token is unknown.")
            if found.revoked:
                return  # the agent may have new credentials, which this holder may not revoke
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
        """Revoke every token of the family, raise an alert, and have the agent disconnected: a token was stolen."""
        await refresh_tokens.revoke_family(conn, found.family)
        await recovery.remove_secret(conn, found.agent_id)
        await agents.refuse_tokens_before(conn, found.agent_id, time.time())
        await alerts.raise_alert(
            conn,
            "refresh_token_reused",
            found.agent_id,
            f"A refresh token of {found.agent_name} was used twice. Its credentials are revoked: enrol it again, "
            "and find out how the token was copied from its machine.",
        )
        instance_id = await agents.online_at(conn, found.agent_id)
        if instance_id is not None:
            message = InstanceMessage(op="reused", agent_id=found.agent_id)
            await instance_messages.send(conn, instance_id, message)

    async def _issue(
        self,
        conn: Connection,
        agent_id: AgentId,
        name: str,
        family: UUID,
        parent: str | None,
        recovery_secret: str | None = None,
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
            recovery_secret=recovery_secret,
        )


async def end_credentials(conn: Connection, agent_id: AgentId) -> None:
    """Revoke all credentials of an agent, and have it disconnected; in the caller's transaction."""
    await agents.lock(conn, agent_id)  # credentials that are just being issued are issued before, and revoked too
    await refresh_tokens.revoke_agent(conn, agent_id)
    await recovery.remove_secret(conn, agent_id)
    await agents.refuse_tokens_before(conn, agent_id, time.time())
    instance_id = await agents.online_at(conn, agent_id)
    if instance_id is not None:
        message = InstanceMessage(op="credentials_ended", agent_id=agent_id)
        await instance_messages.send(conn, instance_id, message)


async def _new_secret(conn: Connection, agent_id: AgentId) -> str:
    secret = "onc_" + secrets.token_urlsafe(32)
    await recovery.set_secret(conn, agent_id, secret)
    return secret


def _rejection(token: refresh_tokens.RefreshToken) -> RefreshRejected | None:
    if token.disabled:
        return RefreshRejected("The agent is disabled.")
    if token.revoked:
        return RefreshRejected("The refresh token is revoked.")
    if token.superseded or (token.used and not token.repeatable):
        return RefreshRejected("The refresh token was already used; every token of its family is revoked.", reused=True)
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


def _recovered(actor: audit.Actor, outcome: Literal["ok", "refused"], recovery_id: UUID) -> audit.Event:
    return audit.Event(
        actor=actor,
        action="agent.recovered",
        target_kind="agent",
        target_id=str(actor.id),
        outcome=outcome,
        detail={"recovery_id": str(recovery_id)},
    )
