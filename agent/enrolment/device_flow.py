"""Enrolment by a code that an operator approves: the device's side of RFC 8628."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from onsembl.agent.enrolment.credentials import Credentials
from onsembl.agent.enrolment.enrol import ServerUnreachable, credentials_of, enrolment_of, request
from onsembl.agent.errors import AgentError
from onsembl.protocol.backoff import Backoff
from onsembl.protocol.enrolment import (
    CLIENT_ID,
    GRANT_TYPE,
    SLOW_DOWN_SECONDS,
    AgentCredentials,
    DeviceAuthorization,
    DeviceErrorCode,
)
from onsembl.protocol.states import AgentKind

REASONS: dict[str, str] = {
    DeviceErrorCode.ACCESS_DENIED: "An operator has rejected this agent.",
    DeviceErrorCode.EXPIRED_TOKEN: "Nobody approved this agent before the code expired. Try again.",
}


class _ErrorAnswer(msgspec.Struct, frozen=True):
    """An error of the device flow, or a problem document, which has `detail`."""

    error: str = ""
    error_description: str = ""
    detail: str = ""


@dataclass(slots=True)
class PollInterval:
    """How long to wait between two polls, in seconds. Pure."""

    seconds: float

    def after(self, error: str) -> float:
        """Seconds to wait after this error. Raises AgentError when polling again is pointless."""
        match error:
            case DeviceErrorCode.AUTHORIZATION_PENDING:
                pass
            case DeviceErrorCode.SLOW_DOWN:
                self.seconds += SLOW_DOWN_SECONDS
            case DeviceErrorCode.ACCESS_DENIED | DeviceErrorCode.EXPIRED_TOKEN:
                raise AgentError(REASONS[error])
            case _:
                raise AgentError(f"The server rejects this agent: {error}.")
        return self.seconds


async def log_in(server: str, name: str, kind: AgentKind, show: Callable[[DeviceAuthorization], None]) -> Credentials:
    """Request a code, have it shown, and wait for an operator's decision. Raises AgentError."""
    code = await _request_code(server, name, kind)
    show(code)
    interval, backoff = PollInterval(code.interval), Backoff()
    deadline = time.monotonic() + code.expires_in
    wait = interval.seconds
    while time.monotonic() + wait < deadline:
        await asyncio.sleep(wait)
        try:
            answer = await _poll(server, code)
        except ServerUnreachable:
            wait = interval.seconds + backoff.next_delay()  # RFC 8628 §3.5: poll more slowly after a timeout
            continue
        if isinstance(answer, AgentCredentials):
            return credentials_of(server, kind, answer)
        wait = interval.after(answer)
    raise AgentError(REASONS[DeviceErrorCode.EXPIRED_TOKEN])


async def _request_code(server: str, name: str, kind: AgentKind) -> DeviceAuthorization:
    form = {"client_id": CLIENT_ID, **msgspec.to_builtins(enrolment_of(name, kind))}
    response = await request(f"{server}/v1/device/authorization", data=form)
    try:
        if response.is_success:
            return msgspec.json.decode(response.content, type=DeviceAuthorization)
        problem = msgspec.json.decode(response.content, type=_ErrorAnswer)
    except msgspec.MsgspecError as error:
        raise AgentError(f"{server} is not an Onsembl server, or an older one.") from error
    raise AgentError(problem.error_description or problem.detail or f"the server answers {response.status_code}")


async def _poll(server: str, code: DeviceAuthorization) -> AgentCredentials | str:
    """The credentials, or an error code. Raises ServerUnreachable."""
    form = {"grant_type": GRANT_TYPE, "device_code": code.device_code, "client_id": CLIENT_ID}
    response = await request(f"{server}/v1/device/token", data=form)
    try:
        if response.is_success:
            return msgspec.json.decode(response.content, type=AgentCredentials)
        return msgspec.json.decode(response.content, type=_ErrorAnswer).error or DeviceErrorCode.INVALID_REQUEST
    except msgspec.MsgspecError as error:
        raise ServerUnreachable(f"{server} does not answer like an Onsembl server: {error}") from error
