"""Refresh tokens that need not be stored: a session's id and a number, under a key of the server's.

Each refresh raises the session's number, so an older token is known for what it is, and the one that followed a token
can be made again for a client that did not hear the answer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID

_TAG_BYTES = 16


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
