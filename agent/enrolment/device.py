"""Becoming an agent by a code that a person approves: the device's side of RFC 8628."""

from __future__ import annotations

import asyncio
import platform
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from onsembl.agent.enrolment.credentials import Credentials
from onsembl.agent.enrolment.enrol import Issued, ServerUnreachable, credentials_of, request
from onsembl.agent.errors import AgentError
from onsembl.protocol.backoff import Backoff
from onsembl.protocol.states import AgentKind

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
CLIENT_ID = "onsembl-agent"
SLOW_DOWN_SECONDS = 5.0
REASONS = {
    "access_denied": "An operator has refused.",
    "expired_token": "Nobody has approved it in time. Try again.",
}


class Code(msgspec.Struct, frozen=True):
    """What the person is to be shown. Times are in seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: float = 5.0


class _Problem(msgspec.Struct, frozen=True):
    error: str = ""
    error_description: str = ""
    detail: str = ""


@dataclass(slots=True)
class Poll:
    """When to ask again. Pure."""

    interval: float

    def next(self, error: str) -> float:
        """Seconds to wait after this answer. Raises AgentError when there is no use in asking again."""
        match error:
            case "authorization_pending":
                pass
            case "slow_down":
                self.interval += SLOW_DOWN_SECONDS
            case _:
                raise AgentError(REASONS.get(error, f"The server refuses: {error}."))
        return self.interval


async def log_in(server: str, name: str, kind: AgentKind, show: Callable[[Code], None]) -> Credentials:
    """Ask to be let in, have the person shown the code, and wait for the decision. Raises AgentError."""
    code = await _ask(server, name, kind)
    show(code)
    poll, backoff = Poll(code.interval), Backoff()
    deadline = time.monotonic() + code.expires_in
    wait = poll.interval
    while time.monotonic() + wait < deadline:
        await asyncio.sleep(wait)
        try:
            answer = await _poll(server, code)
        except ServerUnreachable:
            wait = poll.interval + backoff.next_delay()  # RFC 8628 §3.5: slower while it times out
            continue
        if isinstance(answer, Issued):
            return credentials_of(server, kind, answer)
        wait = poll.next(answer)
    raise AgentError(REASONS["expired_token"])


async def _ask(server: str, name: str, kind: AgentKind) -> Code:
    about = {"name": name, "kind": kind.value, "host": socket.gethostname(), "platform": platform.platform(terse=True)}
    url = f"{server}/v1/device/authorization"
    response = await request(url, data={"client_id": CLIENT_ID, **about})
    try:
        if response.is_success:
            return msgspec.json.decode(response.content, type=Code)
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.MsgspecError as error:
        raise AgentError(f"{server} is not an Onsembl server, or an older one.") from error
    raise AgentError(problem.error_description or problem.detail or f"the server answers {response.status_code}")


async def _poll(server: str, code: Code) -> Issued | str:
    """The credentials, or the error's code. Raises ServerUnreachable."""
    form = {"grant_type": GRANT_TYPE, "device_code": code.device_code, "client_id": CLIENT_ID}
    response = await request(f"{server}/v1/device/token", data=form)
    try:
        if response.is_success:
            return msgspec.json.decode(response.content, type=Issued)
        return msgspec.json.decode(response.content, type=_Problem).error or "invalid_request"
    except msgspec.MsgspecError as error:
        raise ServerUnreachable(f"{server} answers something else: {error}") from error
