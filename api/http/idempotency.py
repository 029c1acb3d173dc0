"""`Idempotency-Key`: a repeated POST creates nothing new.

The header is that of the IETF draft draft-ietf-httpapi-idempotency-key-header: a key of the client's choice, best a
UUID. A key belongs to one operator, and is kept for a day.
"""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

import msgspec

from onsembl.api.http.endpoint import Call
from onsembl.api.http.problems import Problem
from onsembl.sql import idempotency_keys
from onsembl.sql.database import Connection

HEADER = "idempotency-key"
MAX_CHARACTERS = 255


class Once:
    """One request with its key, in the transaction of its change. Without a key, this class does nothing."""

    def __init__(self, call: Call[Any]) -> None:
        """Raises Problem 400 for a key that is not printable ASCII of at most 255 characters."""
        self._operator_id = call.signed_in.id
        key = call.request.headers.get(HEADER)
        if key is not None and not (0 < len(key) <= MAX_CHARACTERS and key.isascii() and key.isprintable()):
            raise Problem(400, f"An Idempotency-Key has 1 to {MAX_CHARACTERS} printable ASCII characters.")
        self._key = key
        asked = f"{call.request.method} {call.request.url.path}\n".encode() + msgspec.json.encode(call.body)
        self._hash = hashlib.sha256(asked).digest()

    @property
    def keyed(self) -> bool:
        """Whether the request has a key."""
        return self._key is not None

    async def made_before(self, conn: Connection) -> UUID | None:
        """The id that the same request created earlier; None when this is the first request with the key. Raises
        Problem 422 when the key was used for another request."""
        if self._key is None:
            return None
        known = await idempotency_keys.claim(conn, self._operator_id, self._key, self._hash)
        if known is None:
            return None
        if bytes(known["request"]) != self._hash:
            raise Problem(422, "This Idempotency-Key was used for another request.")
        return known["made"]

    async def makes(self, conn: Connection, made: UUID) -> None:
        """Record the id that the request has created."""
        if self._key is not None:
            await idempotency_keys.settle(conn, self._operator_id, self._key, made)
