"""Getting credentials from the server, and newer ones for old."""

from __future__ import annotations

import platform
import socket
import time

import httpx
import msgspec

from onsembl.agent.credentials import Credentials
from onsembl.agent.errors import AgentError
from onsembl.protocol.states import AgentKind


class _Answer(msgspec.Struct, frozen=True):
    agent_id: str
    name: str
    access_token: str
    expires_in: int
    refresh_token: str


class RefreshRefused(AgentError):
    """The server does not take the refresh token: only a person can enrol the agent again."""


class ServerUnreachable(AgentError):
    """No answer, or not one of this server's: it may come back."""


async def enrol(server: str, token: str, name: str, kind: AgentKind) -> Credentials:
    """Become an agent by a one-time token. Raises AgentError."""
    body = {"name": name, "kind": kind, "host": socket.gethostname(), "platform": platform.platform(terse=True)}
    answer = await _post(f"{server}/v1/agents/enrol", token, body)
    return _credentials(server, kind, answer)


async def refresh(credentials: Credentials) -> Credentials:
    """The next tokens. Raises RefreshRefused or ServerUnreachable."""
    try:
        answer = await _post(f"{credentials.server}/v1/agents/token", credentials.refresh_token, {})
    except ServerUnreachable:
        raise
    except AgentError as error:
        raise RefreshRefused(f"The server refuses this agent: {error}") from error
    return credentials.renewed(answer.access_token, answer.expires_in, answer.refresh_token)


async def _post(url: str, token: str, body: object) -> _Answer:
    try:
        async with httpx.AsyncClient(timeout=15.0) as client:
            response = await client.post(url, json=body, headers={"Authorization": f"Bearer {token}"})
    except httpx.HTTPError as error:
        raise ServerUnreachable(f"{url} cannot be reached: {error}") from error
    if response.is_success:
        try:
            return msgspec.json.decode(response.content, type=_Answer)
        except msgspec.MsgspecError as error:
            raise ServerUnreachable(f"{url} is not an Onsembl server: {error}") from error
    if response.status_code >= 500 or response.status_code == 429:
        raise ServerUnreachable(f"{url} answers {response.status_code}.")
    raise AgentError(_detail(response))


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answers {response.status_code}"


def _credentials(server: str, kind: str, answer: _Answer) -> Credentials:
    return Credentials(
        server=server,
        agent_id=answer.agent_id,
        name=answer.name,
        kind=kind,
        access_token=answer.access_token,
        access_expires_at=time.time() + answer.expires_in,
        access_lifetime=answer.expires_in,
        refresh_token=answer.refresh_token,
    )
