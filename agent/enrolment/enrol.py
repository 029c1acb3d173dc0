"""Getting credentials from the server, and newer ones for old."""

from __future__ import annotations

import platform
import socket
import time
from typing import Any

import httpx
import msgspec

from onsembl.agent.enrolment.credentials import Credentials
from onsembl.agent.errors import AgentError
from onsembl.protocol.states import AgentKind


class Issued(msgspec.Struct, frozen=True):
    """What the server gives an agent that is let in."""

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
    url = f"{server}/v1/agents/enrol"
    response = await request(url, json=body, headers={"Authorization": f"Bearer {token}"})
    if not response.is_success:
        raise AgentError(_detail(response))
    return credentials_of(server, kind, _issued(url, response))


async def log_out(credentials: Credentials) -> None:
    """Have the server end everything that these credentials are good for. Raises RefreshRefused when they are not known
    there, or ServerUnreachable."""
    url, response = await _show_refresh_token(credentials, "logout")
    try:
        msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ServerUnreachable(f"{url} is not an Onsembl server: {error}") from error


async def refresh(credentials: Credentials) -> Credentials:
    """The next tokens. Raises RefreshRefused or ServerUnreachable."""
    answer = _issued(*await _show_refresh_token(credentials, "token"))
    return credentials.renewed(answer.access_token, answer.expires_in, answer.refresh_token)


async def _show_refresh_token(credentials: Credentials, route: str) -> tuple[str, httpx.Response]:
    """The address and its answer. Only 401 says that the token is not good: anything else may come of what stands in
    between, as a proxy that redirects."""
    url = f"{credentials.server}/v1/agents/{route}"
    response = await request(url, json={}, headers={"Authorization": f"Bearer {credentials.refresh_token}"})
    if response.status_code == 401:
        raise RefreshRefused(f"The server refuses this agent: {_detail(response)}")
    if not response.is_success:
        raise ServerUnreachable(f"{url}: {_detail(response)}")
    return url, response


def _issued(url: str, response: httpx.Response) -> Issued:
    try:
        return msgspec.json.decode(response.content, type=Issued)
    except msgspec.MsgspecError as error:
        raise ServerUnreachable(f"{url} is not an Onsembl server: {error}") from error


async def request(url: str, **content: Any) -> httpx.Response:
    """POST something; the answer. Raises ServerUnreachable, also for an answer that may be another one later."""
    try:
        async with httpx.AsyncClient(timeout=15.0) as client:
            response = await client.post(url, **content)
    except httpx.HTTPError as error:
        raise ServerUnreachable(f"{url} cannot be reached: {error}") from error
    if response.status_code >= 500 or response.status_code == 429:
        raise ServerUnreachable(f"{url} answers {response.status_code}.")
    return response


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answers {response.status_code}"


def credentials_of(server: str, kind: str, answer: Issued) -> Credentials:
    """What is kept of it."""
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
