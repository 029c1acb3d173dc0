"""How an application is served: uvicorn, with the bounds that keep a slow or oversized request cheap."""

from __future__ import annotations

import asyncio
import logging
import time

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from onsembl.api.terminals.direct_socket import DirectSocket

MAX_FRAME_BYTES = 5_000_000
"""What Realtime's clients may send; the sockets of ours allow 1 MiB."""
MAX_HEAD_BYTES = 32 * 1024
"""Of a request's line and headers together: more is answered 400, and the connection is closed."""
HEAD_SECONDS = 5.0
"""From a connection's beginning to the end of its first request's headers."""
REFUSED = "ASGI callable returned without completing handshake."
"""What uvicorn says, as an error, of each WebSocket that was answered with a status instead of an upgrade."""
SAME_TEXT_SECONDS = 10.0
DIFFERENT_TEXTS = 1000


class PromptProtocol(H11Protocol):
    """HTTP for clients that say what they want within `HEAD_SECONDS`. One that does not costs a socket for that long,
    and no task."""

    _too_slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Stop it once a request's head is there; start it anew with the first byte of the next."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._watch_head()
        else:
            self._stop_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to close."""
        self._stop_clock()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        if self._too_slow is None:
            self._too_slow = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_clock(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None


class OnceInAWhile(logging.Filter):
    """Lets the same text through once in `SAME_TEXT_SECONDS`: a flood of bad requests is no flood of lines."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        text, now = record.getMessage(), time.monotonic()
        if text == REFUSED:
            return False
        if record.exc_info is not None or now - self._said_at.get(text, float("-inf")) >= SAME_TEXT_SECONDS:
            if len(self._said_at) > DIFFERENT_TEXTS:
                self._said_at.clear()
            self._said_at[text] = now
            return True
        return False


_once_in_a_while = OnceInAWhile()


def uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    """The settings of the server; logs go where the program's own go."""
    logging.getLogger("uvicorn.error").addFilter(_once_in_a_while)
    return uvicorn.Config(
        app,
        http=PromptProtocol,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ws=DirectSocket,
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=None,  # the protocol has heartbeats of its own
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        log_level="warning",
        lifespan="on",
        proxy_headers=False,  # see client_address.py
        timeout_graceful_shutdown=5,
    )
