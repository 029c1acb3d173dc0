"""Reads a request's body within a limit of bytes and of time; both Starlette applications use it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from starlette.requests import ClientDisconnect, Request

BODY_SECONDS = 20.0
"""How long a client may take to send its body."""
CLOSE: Mapping[str, str] = MappingProxyType({"Connection": "close"})
"""Headers of the response to a request whose body was not read to its end."""


class BodyRejected(Exception):
    """The body is too large (`status` 413), did not arrive in time (408), or its client has left (400)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def read_body(request: Request, max_bytes: int, seconds: float | None = None) -> bytes:
    """The whole body, which arrives within `seconds`, by default `BODY_SECONDS`. Raises BodyRejected."""
    seconds = BODY_SECONDS if seconds is None else seconds
    raw = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > max_bytes:
                    raise BodyRejected(413, f"The body is larger than {max_bytes} bytes.")
    except ClientDisconnect as error:  # nobody reads the answer, but it is no error of the server
        raise BodyRejected(400, "The client closed the connection before its body was complete.") from error
    except TimeoutError as error:
        raise BodyRejected(408, f"The body did not arrive within {seconds:g} seconds.") from error
    return bytes(raw)
