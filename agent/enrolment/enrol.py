"""Requests to the server for an agent's credentials: enrolment by a one-time token, exchange of tokens, logout."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from onsembl.agent.enrolment.credentials import Credentials
from onsembl.agent.enrolment.refusals import is_device_error, refusal
from onsembl.agent.errors import AgentError
from onsembl.protocol.enrolment import RECOVERY_CLOSED, TOKEN_UNKNOWN, AgentCredentials, Enrolment
from onsembl.protocol.states import AgentKind

REQUEST_SECONDS = 15.0
MAX_HOST = 256
MAX_RETRY_AFTER_SECONDS = 120.0
"""The longest wait that a server can ask for by `Retry-After`."""


class CredentialsRejected(AgentError):
    """The server rejects the agent's refresh token: only a person can enrol the agent again."""


class TokenUnknown(CredentialsRejected):
    """The server does not know the refresh token, as after its database was restored from a backup."""


class ServerUnreachable(AgentError):
    """The server did not answer, or something else answered in its place; a later attempt may succeed."""


def enrolment_of(name: str, kind: AgentKind) -> Enrolment:
    """An enrolment of this machine."""
    host, system = this_machine()
    return Enrolment(name=name, kind=kind, host=host, platform=system)


def this_machine() -> tuple[str, str]:
    """This machine's name and system, as an enrolment has them."""
    return socket.gethostname()[:MAX_HOST], platform.platform(terse=True)[:MAX_HOST]


async def enrol(server: str, token: str, name: str, kind: AgentKind) -> Credentials:
    """Enrol an agent by a one-time token. Raises AgentError."""
    url = f"{server}/v1/agents/enrol"
    body = msgspec.to_builtins(enrolment_of(name, kind))
    response = await request(url, json=body, headers={"Authorization": f"Bearer {token}"})
    if not response.is_success:
        raise AgentError(_detail(response))
    return credentials_of(server, kind, _decode_credentials(url, response))


async def log_out(credentials: Credentials) -> None:
    """Have the server revoke the credentials. Raises CredentialsRejected when it does not know them, or
    ServerUnreachable."""
    url, response = await _present_refresh_token(credentials, "logout")
    try:
        msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ServerUnreachable(f"{url} is not an Onsembl server: {error}") from error


class RecoveryClosed(ServerUnreachable):
    """The agent can come back by its recovery secret once an admin opens a recovery; `retry_after` is in seconds."""

    def __init__(self, detail: str, retry_after: float) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


async def recover(credentials: Credentials) -> Credentials:
    """Get new tokens by the recovery secret. Raises RecoveryClosed, CredentialsRejected or ServerUnreachable."""
    url = f"{credentials.server}/v1/agents/recover"
    response = await request(url, json={}, headers={"Authorization": f"Bearer {credentials.recovery_secret}"})
    if response.status_code == 403 and _type(response) == RECOVERY_CLOSED:
        raise RecoveryClosed(_detail(response), retry_after_of(response.headers))
    if response.status_code == 401:
        raise CredentialsRejected(f"The server rejects this agent: {_detail(response)}")
    if not response.is_success:
        raise ServerUnreachable(f"{url}: {_detail(response)}")
    answer = _decode_credentials(url, response)
    return credentials.renewed(answer.access_token, answer.expires_in, answer.refresh_token, answer.recovery_secret)


async def refresh(credentials: Credentials) -> Credentials:
    """Exchange the refresh token for the next pair of tokens. Raises TokenUnknown, CredentialsRejected or
    ServerUnreachable."""
    answer = _decode_credentials(*await _present_refresh_token(credentials, "token"))
    return credentials.renewed(answer.access_token, answer.expires_in, answer.refresh_token)


async def _present_refresh_token(credentials: Credentials, route: str) -> tuple[str, httpx.Response]:
    """The URL and its successful answer.

    Only status 401 means that the server rejects the token.
    """
    url = f"{credentials.server}/v1/agents/{route}"
    response = await request(url, json={}, headers={"Authorization": f"Bearer {credentials.refresh_token}"})
    if response.status_code == 401:
        rejected = TokenUnknown if _type(response) == TOKEN_UNKNOWN else CredentialsRejected
        raise rejected(f"The server rejects this agent: {_detail(response)}")
    if not response.is_success:
        raise ServerUnreachable(f"{url}: {_detail(response)}")
    return url, response


def _decode_credentials(url: str, response: httpx.Response) -> AgentCredentials:
    try:
        return msgspec.json.decode(response.content, type=AgentCredentials)
    except msgspec.MsgspecError as error:
        raise ServerUnreachable(f"{url} is not an Onsembl server: {error}") from error


async def request(url: str, **content: Any) -> httpx.Response:
    """POST `content`. Raises ServerUnreachable when no answer comes, for status 429 and 5xx, and for any other refusal
    that is not the server's own."""
    try:
        # To read the machine's certificates takes longer than the request, which needs none without encryption.
        async with httpx.AsyncClient(timeout=REQUEST_SECONDS, verify=not url.startswith("http:")) as client:
            response = await client.post(url, **content)
    except httpx.HTTPError as error:
        raise ServerUnreachable(f"{url} cannot be reached: {error}") from error
    if response.status_code >= 500 or response.status_code == 429:
        raise ServerUnreachable(f"{url} answers {response.status_code}.")
    if not response.is_success and not _is_own(response):
        raise ServerUnreachable(f"{url} answers {response.status_code}, not as an Onsembl server does.")
    return response


def _is_own(response: httpx.Response) -> bool:
    told = refusal(response.status_code, response.headers, response.content)
    return told is not None or is_device_error(response.content)


def retry_after_of(headers: Mapping[str, str]) -> float:
    """The seconds in `Retry-After` (RFC 9110 §10.2.3), at most two minutes; 0 without the header or with a date."""
    value = headers.get("Retry-After", "")
    return min(float(value), MAX_RETRY_AFTER_SECONDS) if value.isdecimal() else 0.0


def _type(response: httpx.Response) -> str:
    """The `type` of a problem document; empty for any other answer."""
    try:
        return str(response.json()["type"])
    except (ValueError, KeyError, TypeError):
        return ""


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answers {response.status_code}"


def credentials_of(server: str, kind: str, answer: AgentCredentials) -> Credentials:
    """The credentials that the agent keeps, from the server's answer."""
    return Credentials(
        server=server,
        agent_id=str(answer.agent_id),
        name=answer.name,
        kind=kind,
        access_token=answer.access_token,
        access_expires_at=time.time() + answer.expires_in,
        access_lifetime=answer.expires_in,
        refresh_token=answer.refresh_token,
        recovery_secret=answer.recovery_secret or "",
    )
