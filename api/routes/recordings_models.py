"""Requests and answers about what was recorded."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from onsembl.api.http.models import Answer, Query, Time
from onsembl.api.http.problems import Problem
from onsembl.protocol.states import CommandState

Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Stream(Answer, frozen=True, kw_only=True):
    """One terminal's recording. Bytes `start` to `end` (exclusive) are kept; `stored` is what they take on disk.

    `began_at` and `last_at` are null while nothing is kept.
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
    """A page of an agent's streams, newest first; `next_before` asks for the next."""

    streams: list[Stream]
    next_before: Time | None


class RecordedCommand(Answer, frozen=True, kw_only=True):
    """A command that ran in the stream, and where its output is; of its text only how it begins."""

    id: UUID
    text: str
    state: CommandState
    output_start: int
    output_end: int | None
    started_at: Time | None
    ended_at: Time | None


class RecordedCommands(Answer, frozen=True, kw_only=True):
    """A page of a stream's commands, in the order of their output; `next_cursor` asks for the next."""

    commands: list[RecordedCommand]
    next_cursor: str | None


class TerminalSize(Answer, frozen=True, kw_only=True):
    """From the byte at `start` on the terminal has this size."""

    start: int
    at: Time
    columns: int
    rows: int


class Activity(Answer, frozen=True, kw_only=True):
    """How much came within one of the equal parts of the recording's time; parts in which nothing came are left out."""

    part: int
    at: Time
    start: int
    bytes: int


class Timeline(Answer, frozen=True, kw_only=True):
    """What a player draws beside the terminal: `parts` is how many the time is divided in."""

    stream: Stream
    parts: int
    activity: list[Activity]
    sizes: list[TerminalSize]


class TerminalModesAnswer(Answer, frozen=True, kw_only=True):
    """What a terminal that starts is written to have the modes of a place in a recording."""

    modes: str


class AgentUsage(Answer, frozen=True, kw_only=True):
    """Bytes of an agent's recordings, as compressed."""

    agent_id: UUID
    stored: int


class ArchiveUsage(Answer, frozen=True, kw_only=True):
    """What recordings take; agents of which nothing is kept are left out.

    `archive` and `search` are bytes on disk with all indexes: of the recordings, and of the text that is searched.
    """

    agents: list[AgentUsage]
    archive: int
    search: int


class TimeRange(Query, frozen=True, kw_only=True):
    """A time, from `since` up to `until`."""

    since: Time | None = None
    until: Time | None = None


class StreamRange(TimeRange, frozen=True, kw_only=True):
    """Bytes from `start` up to `end`, or from `since` up to `until`; without either, from the first one kept on."""

    start: Offset | None = None
    end: Offset | None = None

    def check(self) -> None:
        """Raise Problem 400 if the start or the end is given by offset and by time."""
        if (self.start is not None and self.since is not None) or (self.end is not None and self.until is not None):
            raise Problem(400, "Give the range by offset or by time, not by both.")


class TimelineQuery(Query, frozen=True, kw_only=True):
    """Of which bytes, and in how many parts."""

    start: Offset | None = None
    end: Offset | None = None
    parts: Annotated[int, Meta(ge=1, le=2000)] = 300


class RecordedCommandsQuery(Query, frozen=True, kw_only=True):
    """A page of the commands of these bytes."""

    start: Offset | None = None
    end: Offset | None = None
    cursor: Annotated[str, Meta(max_length=60)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000


class ModesQuery(Query, frozen=True, kw_only=True):
    """At which offset."""

    at: Offset


class StreamsQuery(Query, frozen=True, kw_only=True):
    """A page of streams."""

    before: Time | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class RecordingQuery(Query, frozen=True, kw_only=True):
    """In which format."""

    format: Literal["cast3", "cast2", "text"] = "cast3"


class StreamRecordingQuery(StreamRange, frozen=True, kw_only=True):
    """Which bytes, in which format."""

    format: Literal["cast3", "cast2", "text"] = "cast3"


class AgentRecordingQuery(TimeRange, frozen=True, kw_only=True):
    """Which time, in which format."""

    format: Literal["cast3", "cast2", "text"] = "cast3"
