"""Messages about control of a terminal and about keys, on both WebSockets. `messages` has the whole protocol.

Keys are sent ahead of output. Each message of keys has the page's id and a number, so that keys that are sent again
after a lost connection are typed once.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from onsembl.protocol.field_types import Message, ShortText

MAX_KEYS = 16_384
"""The most characters in one message. A longer paste is sent in several, each after the answer to the one before."""

KeysRejection = Literal[
    "not_in_control", "offline", "restarted", "nothing_runs", "no_terminal", "too_much", "line_too_long"
]
"""Why keys were not typed. `restarted`: the agent's program has restarted since the keys were sent. `no_terminal`: the
command reads no keyboard. `too_much`: too many typed keys are unread. `line_too_long`: the program reads line by line,
and a line is longer than the terminal's limit of 4,095 bytes, beyond which the kernel would drop keys."""


KeysNumber = Annotated[int, Meta(ge=1, le=2**53)]


class Keys(Message, tag="keys", frozen=True, kw_only=True):
    """Type `text`, or interrupt the command in its CLI's own way. `seq` grows by one with each message of a page."""

    client_id: UUID
    seq: KeysNumber
    text: Annotated[str, Meta(max_length=MAX_KEYS)] = ""
    interrupt: bool = False


class KeysTaken(Message, tag="keys_taken", frozen=True, kw_only=True):
    """The keys with this number were typed, or rejected for the reason `refused`; the page must not send them again."""

    client_id: UUID
    seq: KeysNumber
    refused: KeysRejection | None = None


class TakeControl(Message, tag="take_control", frozen=True, kw_only=True):
    """Request control for this page: wait for it, or take it `from_another` page at once."""

    client_id: UUID
    from_another: bool = False


class GrantControl(Message, tag="grant_control", frozen=True, kw_only=True):
    """The controller gives control to the page `to`, which waits for it."""

    to: UUID


class ReleaseControl(Message, tag="release_control", frozen=True, kw_only=True):
    """Give up control, or stop waiting for it."""


class TerminalClient(msgspec.Struct, frozen=True, kw_only=True):
    """A page that has control of a terminal, or waits for it."""

    client_id: UUID
    name: ShortText


class Controlled(Message, tag="controlled", frozen=True, kw_only=True):
    """Who has control and who waits for it: sent to every viewer, after `attached` and at each change."""

    controller: TerminalClient | None
    waiting: list[TerminalClient] = []


class Redraw(Message, tag="redraw", frozen=True, kw_only=True):
    """Make the program draw its screen anew, because a viewer lacks earlier output."""
