"""Request ids, by which the log lines of all processes that worked on a request are found.

The id is set for the duration of the request and stored with its commands. It is set again wherever a process works on
such a command: in the worker's job, and in the agent.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated
from uuid import uuid4

from msgspec import Meta

from onsembl.protocol.field_types import END

MAX_LENGTH = 128
# The characters of common ids (UUIDs, base64, `Root=1-…`), without any that mean something in a log or a header.
_CHARACTERS = r"^[A-Za-z0-9][A-Za-z0-9._:=+/@-]*" + END
_WELL_FORMED = re.compile(_CHARACTERS)

RequestId = Annotated[str, Meta(min_length=1, max_length=MAX_LENGTH, pattern=_CHARACTERS)]

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def well_formed(text: str) -> bool:
    """Whether a client's own id is accepted."""
    return len(text) <= MAX_LENGTH and _WELL_FORMED.fullmatch(text) is not None


def new() -> str:
    """A new, unique id."""
    return str(uuid4())


def current() -> str | None:
    """The id that is set in the present context."""
    return _current.get()


def set_current(request_id: str | None) -> None:
    """Set the id for the rest of this task and for the tasks that it starts."""
    _current.set(request_id)


@contextmanager
def in_force(request_id: str | None) -> Generator[None]:
    """Set the id for this block alone."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)
