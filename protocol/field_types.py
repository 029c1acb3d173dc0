"""The base class of messages, and the types of fields that several messages have."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_PIDS = 64
"""The most process ids that one report has."""

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
# PostgreSQL's type text takes every character except NUL.
NO_NUL = r"^[^\x00]*$"
ShortText = Annotated[str, Meta(max_length=256, pattern=NO_NUL)]
Reason = Annotated[str, Meta(max_length=1024, pattern=NO_NUL)]
CommandText = Annotated[str, Meta(min_length=1, max_length=100_000, pattern=NO_NUL)]
Priority = Annotated[int, Meta(ge=1, le=10, description="1 is first, 10 is last.")]
Columns = Annotated[int, Meta(ge=2, le=1000)]
Rows = Annotated[int, Meta(ge=1, le=1000)]
OffsetField = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Pids = Annotated[list[Annotated[int, Meta(ge=1)]], Meta(max_length=MAX_PIDS)]
EscalationStage = Literal["interrupt", "sigint", "sigterm", "sigkill", "sweep", "failed"]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename=None):
    """A control message; each subclass gives its tag, a snake-case name."""
