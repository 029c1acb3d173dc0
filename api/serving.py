"""Serves the application with uvicorn, with limits that keep slow and oversized requests cheap."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from onsembl.api.http.event_stream import END_STREAM
from onsembl.api.stalled_peers import StallWatch
from onsembl.api.terminals.direct_socket import DirectSocket

MAX_FRAME_BYTES = 5_000_000
"""The largest frame of Realtime's clients. The sockets of agents and viewers allow 1 MiB."""
MAX_HEAD_BYTES = 32 * 1024
"""The limit of a request's line and headers together. Beyond it the answer is 400, and the connection is closed."""
HEAD_SECONDS = 5.0
"""The time limit for the headers of a request, from the opening of the connection or the request's first byte."""
IDLE_SECONDS = 130
"""The time limit for the next request of a kept connection. It is longer than a proxy in front keeps idle connections
(nginx and AWS 60 s, Traefik 90 s, Caddy 120 s): a server that closes first may do so while a request is on its way,
which the proxy answers 502."""
REFUSED = "ASGI callable returned without completing handshake."
"""The error that uvicorn logs for each WebSocket that was answered with a status instead of an upgrade."""
REPEAT_SECONDS = 10.0
MAX_TEXTS = 1000


class BoundedHeads(h11.Connection):
    """HTTP whose heads have at most `MAX_HEAD_BYTES`, also one that comes whole. h11 itself limits only those of which
    it has a part."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event, as of h11. Raises h11.RemoteProtocolError."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            size = len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers)
            if size > MAX_HEAD_BYTES:
                raise h11.RemoteProtocolError("The head of the request is too large", error_status_hint=431)
        return event


class PromptProtocol(H11Protocol):
    """HTTP that closes connections whose request headers are not complete within `HEAD_SECONDS`, and those of clients
    that do not read an answer. Until a request's headers are complete, a connection costs a socket, but no task."""

    _too_slow: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = BoundedHeads(h11.SERVER, MAX_HEAD_BYTES)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer."""
        super().connection_made(transport)
        self._stall = StallWatch(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Stop the timer once a request's headers are complete; start it again with the next request."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._start_timer()
        else:
            self._stop_timer()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        super().pause_writing()
        self._stall.start()

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        super().resume_writing()
        self._stall.stop()

    def on_response_complete(self) -> None:
        """The whole response is written: its bytes must leave, also where the connection is to close. The timer starts
        if the next request has begun before."""
        super().on_response_complete()
        self._stall.start()
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer and the watch."""
        self._stop_timer()
        self._stall.stop()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: an answer without an end is ended now."""
        super().shutdown()
        scope: dict[str, Any] = getattr(self.cycle, "scope", {})  # there is no cycle before the first request
        if (end := scope.get(END_STREAM)) is not None:
            end()

    def _start_timer(self) -> None:
        if self._too_slow is None:
            self._too_slow = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None


class RepeatFilter(logging.Filter):
    """Logs the same text at most once in `REPEAT_SECONDS`, so that a flood of bad requests does not flood the log."""

    def __init__(self) -> None:
        super().__init__()
        self._logged_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        text, now = record.getMessage(), time.monotonic()
        if text == REFUSED:
            return False
        if record.exc_info is not None or now - self._logged_at.get(text, float("-inf")) >= REPEAT_SECONDS:
            if len(self._logged_at) > MAX_TEXTS:
                self._logged_at.clear()
            self._logged_at[text] = now
            return True
        return False


_repeat_filter = RepeatFilter()


def uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    """The settings of uvicorn. It logs through the program's own handlers."""
    logging.getLogger("uvicorn.error").addFilter(_repeat_filter)
    return uvicorn.Config(
        app,
        http=PromptProtocol,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_keep_alive=IDLE_SECONDS,
        ws=DirectSocket,
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=None,  # our protocol has its own heartbeats
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        log_level="warning",
        lifespan="on",
        proxy_headers=False,  # see client_address.py
        timeout_graceful_shutdown=5,
    )
