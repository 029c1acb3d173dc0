"""Refresh tokens that the server derives and does not store: a session's id and a counter, signed by the server. Pure.

A client that missed the answer gets the same token again, so storing a hash would not do. Each token is derived
instead, as in newer versions of Supabase Auth: an HMAC of the session's id and the token's counter. The session's row
holds the counter of the current token and nothing that can be presented as a token. Each refresh raises the counter,
so the server recognises an older token.
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


class TokenUse(Enum):
    """The kind of a refresh token that a client presents."""

    CURRENT = auto()
    """The current token: it is exchanged for the next."""
    REUSED = auto()
    """A used token, for a reason that honest clients have: it gets the current token."""
    STOLEN = auto()
    """A token used long ago: two parties hold tokens of the session, so the session ends."""
    UNKNOWN = auto()
    """A token that is newer than the current one: perhaps the database was restored from a backup."""


def classify_use(presented: int, current: int, since_refresh: float, reuse_interval: float) -> TokenUse:
    """Classify a token by its counter, the current token's counter and the seconds since the last refresh.

    Both exceptions for used tokens are Supabase Auth's. The parent of the current token always gets the current one:
    its client missed the answer or could not save it. Any older token gets it within `reuse_interval` seconds: tabs
    that wake up together refresh at once.
    """
    if presented == current:
        return TokenUse.CURRENT
    if presented > current:
        return TokenUse.UNKNOWN
    if presented == current - 1 or since_refresh < reuse_interval:
        return TokenUse.REUSED
    return TokenUse.STOLEN


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """The `counter`-th refresh token of a session."""

    session_id: UUID
    counter: int

    def text(self, secret: bytes) -> str:
        """The token as the client holds it."""
        body = self.session_id.bytes + self.counter.to_bytes(4)
        return base64.urlsafe_b64encode(body + _tag(body, secret)).decode()

    @classmethod
    def parse(cls, text: str, secret: bytes) -> RefreshToken | None:
        """The token; None when this server did not make it."""
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
