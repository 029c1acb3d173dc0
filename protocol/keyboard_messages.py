"""Writing to a terminal, on both WebSockets; see `messages` for what is said around it.

Keys go their own way, ahead of output and beside it. Each bears the page's own id and a number, so that what is sent
again after a lost connection is typed once.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from onsembl.protocol.field_types import Message, ShortText

MAX_KEYS = 16_384
"""Characters of one message; a longer paste is sent in several, each when the one before was typed."""

KeysRejection = Literal["not_in_control", "offline", "restarted", "nothing_runs", "no_terminal", "too_much"]
"""Why keys were not typed. `restarted`: the agent that they were meant for is not that any more. `no_terminal`: the
command reads no keyboard. `too_much`: the program does not read what was typed already."""


class Keys(Message, tag="keys", frozen=True, kw_only=True):
    """Type this, as a keyboard would, or interrupt the command in its CLI's own way. `seq` grows by one."""

    client_id: UUID
    seq: Annotated[int, Meta(ge=1, le=2**53)]
    text: Annotated[str, Meta(max_length=MAX_KEYS)] = ""
    interrupt: bool = False


class KeysTaken(Message, tag="keys_taken", frozen=True, kw_only=True):
    """The keys of this number were typed, or why they were not; either way they, and no others, are not to be sent
    again."""

    client_id: UUID
    seq: int
    refused: KeysRejection | None = None


class TakeControl(Message, tag="take_control", frozen=True, kw_only=True):
    """This page wants to type. `from_another`: also when somebody else does; else it waits its turn."""

    client_id: UUID
    from_another: bool = False


class GrantControl(Message, tag="grant_control", frozen=True, kw_only=True):
    """Whoever types gives it to one that waits."""

    to: UUID


class ReleaseControl(Message, tag="release_control", frozen=True, kw_only=True):
    """This page types no more, or waits no more."""


class TerminalClient(msgspec.Struct, frozen=True, kw_only=True):
    """A page that types, or waits to."""

    client_id: UUID
    name: ShortText


class Controlled(Message, tag="controlled", frozen=True, kw_only=True):
    """Who types, and who waits to; to everyone who looks, after `attached` and whenever it changes."""

    controller: TerminalClient | None
    waiting: list[TerminalClient] = []


class Redraw(Message, tag="redraw", frozen=True, kw_only=True):
    """A viewer lacks what was drawn before: have the program draw its screen anew, soon if not at once."""
