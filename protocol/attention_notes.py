"""Notes of the server among the requests of agents: nobody waits for an answer, a person looks and dismisses them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from onsembl.protocol.attention_messages import RequestBody, RequestKind
from onsembl.protocol.field_types import Bounded, Time

AttentionKind = RequestKind | Literal["failed", "limit"]
"""The kind of a request or of a note. `failed`: a turn has failed, or a command was lost. `limit`: the agent waits for
the reset of a usage limit of its vendor."""
NOTES = ("failed", "limit")


class FailedBody(Bounded, frozen=True, kw_only=True, tag="failed", tag_field="kind"):
    """A turn that has failed, or a command that was lost; `text` is its error."""

    state: Literal["failed", "lost"]
    text: Annotated[str, Meta(max_length=4096)] = ""


class LimitBody(Bounded, frozen=True, kw_only=True, tag="limit", tag_field="kind"):
    """The agent has reached a usage limit, and goes on by itself at `until`; `text` is the CLI's error."""

    until: Time
    text: Annotated[str, Meta(max_length=4096)] = ""


AttentionBody = RequestBody | FailedBody | LimitBody
