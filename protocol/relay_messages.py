"""The messages of the relay, `/v1/instances/relay`: an instance shows terminals of another's agents to its viewers.

JSON text frames tagged by `type`, as on the other WebSockets. One connection carries many streams, each under the
number of a channel, which the relaying instance gives. Terminal bytes are binary frames: `HEADER` (the channel, and the
absolute offset of the first byte) and then raw bytes.

    relaying instance                     the agent's instance, its owner
      watch              →                                  the agent, its epoch, and the next byte wanted
                         ←                watched           exact, tail or gap, as for a viewer
                         ←                (binary output)
      credit             →                                  so many more bytes may be sent
                         ←                to_viewers        a gap, a new stream, a size, times, control
      redraw_wanted      →
      page_opened        →                                  a page with its operator, whom the relaying instance checked
      from_page          →                                  keys, control and sizes
                         ←                to_page           which keys were typed
      page_closed        →
                         ←                watch_ended       the agent is not here any more
      unwatch            →
      look_at            →                                  a file or a folder of an agent
                         ←                looked
      ask_statistics     →                                  of the process
                         ←                statistics

The relaying instance pings every `PING_SECONDS`, with the pings of the WebSocket itself, so that each side finds out
when the other is silent.
"""

from __future__ import annotations

import struct
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from onsembl.protocol.field_types import Bounded, Count, Message, OffsetField, Reason, ShortText
from onsembl.protocol.files import FilePath, FileRules, Seen
from onsembl.protocol.json_input import InputError, decode
from onsembl.protocol.messages import (
    Attached,
    BadMessage,
    Controlled,
    Gap,
    GrantControl,
    Keys,
    KeysTaken,
    ReleaseControl,
    Resize,
    Resized,
    StreamStarted,
    TakeControl,
    Times,
)
from onsembl.protocol.states import Role
from onsembl.protocol.statistics import ProcessStatistics
from onsembl.protocol.stream import MAX_OFFSET

RELAY_SUBPROTOCOL = "onsembl.relay.v1"
RELAY_PATH = "/v1/instances/relay"
HEADER = struct.Struct(">IQ")
MAX_FRAME_BYTES = 8 * 1024 * 1024
"""The largest frame from an owner: a file of 1 MiB, each character of which may take six in JSON."""

PING_SECONDS = 2.0
"""How often the relaying instance pings its owner, in seconds."""

Number = Annotated[int, Meta(ge=1, lt=2**32)]


# Relaying instance to owner


class RelayedOperator(Bounded, frozen=True, kw_only=True):
    """The operator of a page, by an access token that the relaying instance has verified."""

    id: UUID
    email: ShortText
    role: Role


class Watch(Message, tag="watch", frozen=True, kw_only=True):
    """Send the terminal of this agent, from the byte at `offset` of the stream on if it is known.

    An owner whose connection of the agent is older than `epoch` is none any more.
    """

    channel: Number
    agent_id: UUID
    epoch: Count
    stream_id: UUID | None = None
    offset: OffsetField | None = None


class Unwatch(Message, tag="unwatch", frozen=True, kw_only=True):
    """Send nothing more on this channel: the last viewer has left."""

    channel: Number


class Credit(Message, tag="credit", frozen=True, kw_only=True):
    """So many bytes of a channel were taken; as many more may be sent."""

    channel: Number
    count: Annotated[int, Meta(ge=1, lt=2**32)]


class RedrawWanted(Message, tag="redraw_wanted", frozen=True, kw_only=True):
    """A viewer lacks the bytes that drew the program's screen."""

    channel: Number


class PageOpened(Message, tag="page_opened", frozen=True, kw_only=True):
    """A page views the terminal of the channel, or its operator has a newer token."""

    channel: Number
    page: Number
    operator: RelayedOperator
    address: ShortText
    client_id: UUID | None = None


PageMessage = Keys | TakeControl | GrantControl | ReleaseControl | Resize


class FromPage(Message, tag="from_page", frozen=True, kw_only=True):
    """A message of a page."""

    channel: Number
    page: Number
    message: PageMessage


class PageClosed(Message, tag="page_closed", frozen=True, kw_only=True):
    """The connection of a page was closed."""

    channel: Number
    page: Number


class LookAt(Message, tag="look_at", frozen=True, kw_only=True):
    """Show a file or a folder of the agent's working folder, by rules that the relaying instance has read."""

    request_id: UUID
    agent_id: UUID
    path: FilePath
    rules: FileRules


class AskStatistics(Message, tag="ask_statistics", frozen=True, kw_only=True):
    """Tell the statistics of your process."""

    request_id: UUID


# Owner to relaying instance


class Watched(Message, tag="watched", frozen=True, kw_only=True):
    """The answer to `watch`: what a viewer is told, and the epoch of the agent's connection."""

    channel: Number
    epoch: Count
    attached: Attached


class ToViewers(Message, tag="to_viewers", frozen=True, kw_only=True):
    """A message at this place in the stream, for every viewer."""

    channel: Number
    message: Gap | StreamStarted | Resized | Times | Controlled


class ToPage(Message, tag="to_page", frozen=True, kw_only=True):
    """A message for one page."""

    channel: Number
    page: Number
    message: KeysTaken


class WatchEnded(Message, tag="watch_ended", frozen=True, kw_only=True):
    """The channel is closed: the agent is not connected here, or has connected elsewhere."""

    channel: Number
    reason: Reason


class Looked(Message, tag="looked", frozen=True, kw_only=True):
    """The answer to `look_at`: what the agent has shown, or why there is no answer; `silent`, if it did not answer in
    time."""

    request_id: UUID
    seen: Seen | None = None
    reason: Reason = ""
    silent: bool = False


class OwnStatistics(Bounded, frozen=True, kw_only=True):
    """The statistics of a process, and its release."""

    release: ShortText
    statistics: ProcessStatistics


class StatisticsTold(Message, tag="statistics", frozen=True, kw_only=True):
    """The answer to `ask_statistics`."""

    request_id: UUID
    own: OwnStatistics


RelayRequest = Watch | Unwatch | Credit | RedrawWanted | PageOpened | FromPage | PageClosed | LookAt | AskStatistics
RelayAnswer = Watched | ToViewers | ToPage | WatchEnded | Looked | StatisticsTold

_requests = msgspec.json.Decoder(RelayRequest)
_answers = msgspec.json.Decoder(RelayAnswer)


def decode_request(frame: str | bytes) -> RelayRequest:
    """Decode a text frame of a relaying instance. Raises BadMessage."""
    try:
        return decode(_requests, frame)
    except InputError as error:
        raise BadMessage(str(error)) from error


def decode_answer(frame: str | bytes) -> RelayAnswer:
    """Decode a text frame of an owner. Raises BadMessage."""
    try:
        return decode(_answers, frame)
    except InputError as error:
        raise BadMessage(str(error)) from error


def encode_bytes(channel: int, offset: int, data: bytes) -> bytes:
    """Encode a binary frame with `data`, whose first byte is at `offset` of the channel's stream."""
    return HEADER.pack(channel, offset) + data


def decode_bytes(frame: bytes) -> tuple[int, int, bytes]:
    """Decode a binary frame to `(channel, offset, data)`. Raises BadMessage."""
    if len(frame) <= HEADER.size:
        raise BadMessage("a frame of the relay needs a channel, an offset and at least one byte")
    channel, offset = HEADER.unpack_from(frame)
    if offset > MAX_OFFSET - len(frame):
        raise BadMessage("the offset is out of range")
    return channel, offset, frame[HEADER.size :]
