"""Reading a request's body: no more than it may be, and not for longer than it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from starlette.requests import Request

BODY_SECONDS = 20.0
"""How long a client may take to send its body."""
CLOSE: Mapping[str, str] = MappingProxyType({"Connection": "close"})
"""Headers of an answer to a body that was not read to its end."""


class BodyRefused(Exception):
    """With the answer's status: 413 or 408."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body. Raises BodyRefused."""
    raw = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > most_bytes:
                    raise BodyRefused(413, f"The body is larger than {most_bytes} bytes.")
    except TimeoutError as error:
        raise BodyRefused(408, "The body did not come in time.") from error
    return bytes(raw)
