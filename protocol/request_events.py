"""The events of a turn that waits for a person: what is asked, and what became of it."""

from __future__ import annotations

from uuid import UUID

from onsembl.protocol.attention_messages import RequestBody
from onsembl.protocol.turn_events import TurnEvent


class RequestOpened(TurnEvent, tag="request_opened", frozen=True, kw_only=True):
    """The CLI waits for a person. `tool_call` is the id of the call that it asks about, `ask_operator` if it asks by
    this tool, and empty when there is none."""

    id: UUID
    tool_call: str = ""
    title: str
    body: RequestBody


class RequestAnswered(TurnEvent, tag="request_answered", frozen=True, kw_only=True):
    """The CLI was given a decision. `text` says which and by whom; `denied` is true for a denial."""

    id: UUID
    text: str
    denied: bool


class RequestWithdrawn(TurnEvent, tag="request_withdrawn", frozen=True, kw_only=True):
    """The request is not open any more, and got no decision."""

    id: UUID
    reason: str
