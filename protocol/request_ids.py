"""The id of a request, by which what was done about it is found in the log of every process that had a part in it.

It is in force from the request's beginning on, is kept with the commands that were asked for, and is in force again
wherever something is done about one of them: in the worker's job, and in the agent.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated
from uuid import uuid4

from msgspec import Meta

MAX_LENGTH = 128
# What others' ids are made of (UUIDs, base64, `Root=1-…`), and nothing that a log or a header would read otherwise.
_CHARACTERS = r"^[A-Za-z0-9][A-Za-z0-9._:=+/@-]*$"
_WELL_FORMED = re.compile(_CHARACTERS)

RequestId = Annotated[str, Meta(min_length=1, max_length=MAX_LENGTH, pattern=_CHARACTERS)]

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def well_formed(text: str) -> bool:
    """Whether a client's own id is taken as it is."""
    return len(text) <= MAX_LENGTH and _WELL_FORMED.fullmatch(text) is not None


def new() -> str:
    """An id that nobody else has."""
    return str(uuid4())


def current() -> str | None:
    """The id that is in force here."""
    return _current.get()


def set_current(request_id: str | None) -> None:
    """Put an id in force for what is left of this task, and for those that it makes."""
    _current.set(request_id)


@contextmanager
def in_force(request_id: str | None) -> Generator[None]:
    """For this block alone."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)
