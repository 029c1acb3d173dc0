"""The host's requests to its server, and its credentials: the secret that it presents with each request."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import msgspec

from onsembl.agent.enrolment.credentials import read_private
from onsembl.agent.enrolment.enrol import ServerUnreachable, request, this_machine
from onsembl.agent.errors import AgentError
from onsembl.agent.link.durable import replace_file
from onsembl.protocol.enrolment import AgentCredentials
from onsembl.protocol.hosting import (
    SUPERSEDED,
    HostConnected,
    HostCredentials,
    HostEnrolment,
    HostEpoch,
    HostOffer,
    HostPoll,
    Outcome,
    RequestedStart,
    RequestedStarts,
    StartOutcome,
)

FILE_NAME = "host.json"

R = TypeVar("R", bound=msgspec.Struct)


class KnownHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host's identity at one server, as it is kept on the machine."""

    server: str
    name: str
    secret: str


class Rejected(Exception):
    """The server does not do what the host asks; the text is the server's."""


class Over(AgentError):
    """The host was deleted, or another run of it has connected: this run ends."""


def load(folder: Path) -> KnownHost | None:
    """The host in this folder; None before it is enrolled. Raises AgentError, also when others can read it."""
    path = folder / FILE_NAME
    try:
        return msgspec.json.decode(read_private(path), type=KnownHost)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {error.strerror}.") from error
    except msgspec.MsgspecError as error:
        raise AgentError(f"{path} is damaged ({error}). Delete it, and enrol the host again.") from error


async def enrol_host(folder: Path, server: str, token: str, name: str) -> KnownHost:
    """Enrol this machine as a host by a one-time token, and keep its secret. Raises AgentError."""
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        machine, system = this_machine()
        body = HostEnrolment(name=name, machine=machine, platform=system)
        answer = await _ask(server, token, "hosts/enrol", body, HostCredentials)
        known = KnownHost(server=server, name=answer.name, secret=answer.secret)
        replace_file(folder / FILE_NAME, [msgspec.json.encode(known)])
    except Rejected as error:
        raise AgentError(str(error)) from error
    except OSError as error:
        raise AgentError(f"The host's folder {folder} cannot be used: {error.strerror}.") from error
    return known


class HostClient:
    """The requests of one run of a host. Each raises ServerUnreachable, after which it can be repeated, Over and
    Rejected."""

    def __init__(self, host: KnownHost) -> None:
        self.host = host
        self._epoch = 0

    async def connect(self, offer: HostOffer) -> None:
        """Tell what the owner allows; an earlier run of the host is over."""
        self._epoch = (await self._own("connection", offer, HostConnected)).epoch

    async def poll(self, running: int, *, leaving: bool = False) -> list[RequestedStart]:
        """Wait for requests, for some seconds."""
        body = HostPoll(epoch=self._epoch, running=running, leaving=leaving)
        return (await self._own("requests", body, RequestedStarts)).starts

    async def enrol(self, start_id: UUID) -> AgentCredentials:
        """Enrol the agent of a request."""
        return await self._own(f"requests/{start_id}/enrol", HostEpoch(epoch=self._epoch), AgentCredentials)

    async def report(self, start_id: UUID, outcome: Outcome, reason: str) -> None:
        """Report what became of a request."""
        body = StartOutcome(epoch=self._epoch, state=outcome, reason=reason)
        await self._own(f"requests/{start_id}/outcome", body, _Recorded)

    async def _own(self, path: str, body: msgspec.Struct, answer: type[R]) -> R:
        return await _ask(self.host.server, self.host.secret, f"host/{path}", body, answer)


async def _ask(server: str, token: str, path: str, body: msgspec.Struct, answer: type[R]) -> R:
    """The server's answer. Raises ServerUnreachable, Over for a secret that is not known, and Rejected."""
    url = f"{server}/v1/{path}"
    response = await request(url, json=msgspec.to_builtins(body), headers={"Authorization": f"Bearer {token}"})
    try:
        if response.is_success:
            return msgspec.json.decode(response.content, type=answer)
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.MsgspecError as error:
        raise ServerUnreachable(f"{url} is not an Onsembl server: {error}") from error
    if response.status_code == 401 or problem.type == SUPERSEDED:
        raise Over(problem.detail)
    raise Rejected(problem.detail)


class _Recorded(msgspec.Struct, frozen=True):
    pass


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    detail: str
