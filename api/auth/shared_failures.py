"""Wrong guesses at passwords and at codes of the device flow, counted by all instances together.

Each instance counts its own at once, and tells the others by NOTIFY, so that more instances give nobody more guesses.
While the database connection that listens is lost, an instance counts alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal
from uuid import UUID, uuid4

import msgspec

from onsembl.protocol.rates import LeakyBuckets
from onsembl.sql import instances
from onsembl.sql.database import Connection

Secret = Literal["password", "user_code"]


class _WrongGuess(msgspec.Struct, frozen=True, kw_only=True):
    """A wrong guess at the instance with the random id `source`, under the keys of its rate limit."""

    source: UUID
    secret: str
    keys: list[str]


class SharedFailures:
    """The counters of one instance: tells the others of its failures, and counts theirs."""

    def __init__(self) -> None:
        self._id = uuid4()
        self._counters: dict[str, LeakyBuckets] = {}

    def count_in(self, secret: Secret, counter: LeakyBuckets) -> None:
        """Count the others' wrong guesses at this kind of secret in `counter`."""
        self._counters[secret] = counter

    async def tell(self, conn: Connection, secret: Secret, keys: Sequence[str]) -> None:
        """Tell the other instances of a wrong guess that this one has counted, when the transaction commits."""
        wrong = _WrongGuess(source=self._id, secret=secret, keys=list(keys))
        await instances.tell_failure(conn, msgspec.json.encode(wrong).decode())

    def receive(self, payload: str) -> None:
        """Count a wrong guess of another instance."""
        wrong = msgspec.json.decode(payload, type=_WrongGuess)
        counter = self._counters.get(wrong.secret)  # another release may count more kinds
        if counter is not None and wrong.source != self._id:
            counter.count(wrong.keys, time.monotonic())
