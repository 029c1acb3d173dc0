"""How agents are started from elsewhere, as both sides of the REST API use it: a host tells what its owner allows, asks
for requests to start an agent, enrols the agent and reports what became of it.

A host (`onsembl agent host`) is no agent: it takes no commands and has no terminal.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from onsembl.protocol.field_types import END, NO_NUL, Bounded, Count, Credential, Name, Reason, ShortText
from onsembl.protocol.states import AgentKind

START_SECONDS = 15.0
"""How long a request to start an agent waits for its host."""
HELD_SECONDS = 10.0
"""How long the server holds a host's question until there is a request."""
MAX_AGENTS = 64
"""The most agents that a host may run."""
MAX_FOLDERS = 32
MAX_KINDS = 32
SUPERSEDED = "urn:onsembl:problem:host-superseded"
"""The `type` of the problem that the host has connected again from elsewhere: this run of it ends."""

Outcome = Literal["refused", "failed", "started", "ended"]
_KINDS = "|".join(AgentKind)
StartKind = Annotated[
    str,
    Meta(
        max_length=80,
        pattern=rf"^({_KINDS})(:[a-z0-9][a-z0-9-]{{0,63}})?{END}",
        description="A kind of agent; where it does not name the CLI, with a colon and the CLI: `acp:opencode`.",
    ),
]
HostFolder = Annotated[
    str, Meta(min_length=1, max_length=1024, pattern=NO_NUL, description="The absolute path of a folder.")
]


class HostEnrolment(Bounded, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine says of the host that it would be."""

    name: Name
    machine: ShortText = ""
    platform: ShortText = ""


class HostCredentials(Bounded, frozen=True, kw_only=True):
    """An enrolled host's identity, and the secret that it presents with each request."""

    host_id: UUID
    name: Name
    secret: Credential


class HostOffer(Bounded, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the host's owner allows: agents of these kinds, below these folders, at most so many at a time."""

    kinds: Annotated[list[StartKind], Meta(min_length=1, max_length=MAX_KINDS)]
    folders: Annotated[list[HostFolder], Meta(min_length=1, max_length=MAX_FOLDERS)]
    max_agents: Annotated[int, Meta(ge=1, le=MAX_AGENTS)]
    machine: ShortText = ""
    platform: ShortText = ""


class HostConnected(Bounded, frozen=True, kw_only=True):
    """The answer to an offer. The host repeats `epoch` in each request; those of an earlier epoch are rejected."""

    name: Name
    epoch: Count


class HostPoll(Bounded, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host's question for requests, with the number of agents that it runs. With `leaving` it is the last one."""

    epoch: Count
    running: Annotated[int, Meta(ge=0, le=1024)]
    leaving: bool = False


class RequestedStart(Bounded, frozen=True, kw_only=True):
    """A request to start an agent in a folder of the host."""

    id: UUID
    name: Name
    kind: StartKind
    folder: HostFolder


class RequestedStarts(Bounded, frozen=True, kw_only=True):
    """The requests that wait for the host, the oldest first."""

    starts: Annotated[list[RequestedStart], Meta(max_length=MAX_AGENTS)]


class HostEpoch(Bounded, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The epoch under which the host acts."""

    epoch: Count


class StartOutcome(Bounded, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a request: `refused` by the owner's rules or `failed`, for this reason; the agent is `started`; or
    its program has `ended`, as the reason says."""

    epoch: Count
    state: Outcome
    reason: Reason = ""


def agent_kind(kind: str) -> AgentKind:
    """The agent's kind, of the kind in a request."""
    return AgentKind(kind.partition(":")[0])


def arguments_of(kind: str) -> list[str]:
    """The arguments of the coding CLI, of the kind in a request: the name of the CLI."""
    program = kind.partition(":")[2]
    return [program] if program else []
