"""Ends connections whose peers have stopped reading.

A server that writes to such a peer waits without end: every later message, the ping that was to find the peer out and
the closing handshake wait behind the bytes that it does not take. So the connection itself watches whether waiting
bytes leave. A peer that reads slowly is no stalled peer.
"""

from __future__ import annotations

import asyncio

STALL_SECONDS = 30.0
"""A peer that takes none of the waiting bytes for this long is disconnected."""


class StallWatch:
    """Aborts a transport when the bytes in its write buffer stay for `STALL_SECONDS`.

    Watch from the moment when the transport asks to pause writing, or is to close, until `stop`; when no bytes wait,
    the watch ends by itself.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = 0

    def start(self) -> None:
        """Watch the bytes that wait now."""
        if self._timer is None:
            self._arm()

    def stop(self) -> None:
        """The bytes have left, or the connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = None
        self._waiting = self._transport.get_write_buffer_size()
        if self._waiting > 0:
            self._timer = asyncio.get_running_loop().call_later(STALL_SECONDS, self._check)

    def _check(self) -> None:
        if self._waiting <= self._transport.get_write_buffer_size():
            self._timer = None
            self._transport.abort()
        else:
            self._arm()
