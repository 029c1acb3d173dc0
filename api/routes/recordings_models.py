"""Models of recordings."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from onsembl.api.http.models import Answer, Query, Time
from onsembl.api.http.problems import Problem
from onsembl.api.terminals.recording import Format
from onsembl.protocol.field_types import NO_NUL
from onsembl.protocol.states import CommandState

Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Stream(Answer, frozen=True, kw_only=True):
    """The recording of a terminal. Bytes `start` to `end` (exclusive) are kept; they take `stored` bytes on disk.

    `began_at` and `last_at` are null while no byte is kept.
    """

    id: UUID
    agent_id: UUID
    agent_name: str
    created_at: Time
    start: int
    end: int
    began_at: Time | None
    last_at: Time | None
    stored: int
    columns: int
    rows: int
    commands: int


class Streams(Answer, frozen=True, kw_only=True):
    """A page of an agent's streams, newest first; `next_before` is where the next page starts, null on the last
    page."""

    streams: list[Stream]
    next_before: Time | None


class RecordedCommand(Answer, frozen=True, kw_only=True):
    """A command that ran in the stream: the beginning of its text, and the range of its output."""

    id: UUID
    text: str
    state: CommandState
    output_start: int
    output_end: int | None
    started_at: Time | None
    ended_at: Time | None


class RecordedCommands(Answer, frozen=True, kw_only=True):
    """A page of a stream's commands, in the order of their output; `next_cursor` is where the next page starts, null on
    the last page."""

    commands: list[RecordedCommand]
    next_cursor: str | None


class TerminalSize(Answer, frozen=True, kw_only=True):
    """The size of the terminal, in cells, from the byte at `start` on."""

    start: int
    at: Time
    columns: int
    rows: int


class Activity(Answer, frozen=True, kw_only=True):
    """The bytes of output in one of the equal parts of the recording's time. Parts without output are left out."""

    part: int
    at: Time
    start: int
    bytes: int


class Timeline(Answer, frozen=True, kw_only=True):
    """The data for a player's timeline. The recording's time is divided into `parts` equal parts."""

    stream: Stream
    parts: int
    activity: list[Activity]
    sizes: list[TerminalSize]


class TerminalModesAnswer(Answer, frozen=True, kw_only=True):
    """The bytes that put a new terminal into the modes in force at an offset."""

    modes: str


class AgentStorage(Answer, frozen=True, kw_only=True):
    """The compressed size of an agent's recordings, in bytes."""

    agent_id: UUID
    stored: int


class StorageUse(Answer, frozen=True, kw_only=True):
    """The disk use of recordings. Agents without recordings are left out.

    `archive` and `search` are bytes on disk with all indexes: of the recordings, and of the text for the search.
    """

    agents: list[AgentStorage]
    archive: int
    search: int


class TimeRange(Query, frozen=True, kw_only=True):
    """A range of time, from `since` up to `until`."""

    since: Time | None = None
    until: Time | None = None


class StreamRange(TimeRange, frozen=True, kw_only=True):
    """A range of bytes, from `start` up to `end`, or from `since` up to `until`. The default start is the first byte
    kept."""

    start: Offset | None = None
    end: Offset | None = None

    def check(self) -> None:
        """Raise Problem 400 if the start or the end is given by offset and by time."""
        if (self.start is not None and self.since is not None) or (self.end is not None and self.until is not None):
            raise Problem(400, "Give the range by offset or by time, not by both.")


class TimelineQuery(Query, frozen=True, kw_only=True):
    """A range of bytes, and the number of parts."""

    start: Offset | None = None
    end: Offset | None = None
    parts: Annotated[int, Meta(ge=1, le=2000)] = 300


class RecordedCommandsQuery(Query, frozen=True, kw_only=True):
    """A page of the commands in a range of bytes."""

    start: Offset | None = None
    end: Offset | None = None
    cursor: Annotated[str, Meta(max_length=60, pattern=NO_NUL)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000


class ModesQuery(Query, frozen=True, kw_only=True):
    """An offset in a stream."""

    at: Offset


class StreamsQuery(Query, frozen=True, kw_only=True):
    """A page of streams."""

    before: Time | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class RecordingQuery(Query, frozen=True, kw_only=True):
    """The format of an export."""

    format: Format = "cast3"


class StreamRecordingQuery(StreamRange, frozen=True, kw_only=True):
    """The range and the format of an export."""

    format: Format = "cast3"


class AgentRecordingQuery(TimeRange, frozen=True, kw_only=True):
    """The time range and the format of an export."""

    format: Format = "cast3"
