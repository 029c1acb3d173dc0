"""Refresh tokens that need not be stored: a session's id and a number, under a key of the server's. Pure.

A token is given once more to a client that missed the answer, so keeping its hash would not do. Each is derived
instead, as Supabase Auth's newer ones are: a keyed hash (HMAC) of the session's id and the token's number. The row of
the session keeps the number of the one that is good, and nothing in it can be presented as a token. Each refresh raises
the number, so an older token is known for what it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from enum import Enum, auto
from uuid import UUID

_TAG_BYTES = 16


class Use(Enum):
    """What presenting a token means."""

    FIRST = auto()
    """It is the good one: the next becomes good."""
    REPEATED = auto()
    """It was used before, but for a reason that honest clients have: it is answered with the one that is good now."""
    STOLEN = auto()
    """Two parties hold tokens of the session: it ends."""
    FOREIGN = auto()
    """It is ahead of the database, which was perhaps restored from a backup."""


def use_of(presented: int, good: int, since_refresh: float, reuse: float) -> Use:
    """Judge a token by its number, the number of the good one, and the seconds since the last refresh.

    Both exceptions are Supabase Auth's. The parent of the good one is always answered: its client did not get, or could
    not keep, the answer. Any older one is answered within `reuse` seconds: tabs that wake up together refresh at once.
    """
    if presented == good:
        return Use.FIRST
    if presented > good:
        return Use.FOREIGN
    if presented == good - 1 or since_refresh < reuse:
        return Use.REPEATED
    return Use.STOLEN


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """The `counter`-th refresh token of a session."""

    session_id: UUID
    counter: int

    def text(self, secret: bytes) -> str:
        """What the client is given."""
        body = self.session_id.bytes + self.counter.to_bytes(4)
        return base64.urlsafe_b64encode(body + _tag(body, secret)).decode()

    @classmethod
    def parse(cls, text: str, secret: bytes) -> RefreshToken | None:
        """The token, if this server made it."""
        try:
            raw = base64.b64decode(text, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        body, tag = raw[:20], raw[20:]
        if len(body) != 20 or not hmac.compare_digest(tag, _tag(body, secret)):
            return None
        return cls(UUID(bytes=body[:16]), int.from_bytes(body[16:]))


def _tag(body: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, body, hashlib.sha256)[:_TAG_BYTES]
