"""Waiting for something that everybody is to hear of."""

from __future__ import annotations

import asyncio


class Changes:
    """Wakes all who wait, each time there is one. Thousands may wait, each for a time of its own: to begin and to end
    costs the same however many there are."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def tell(self) -> None:
        """There is one."""
        for waiter in self._waiting:
            _wake(waiter)

    async def wait(self, seconds: float) -> None:
        """Until the next one, or for so many seconds."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.add(waiter)
        timer = loop.call_later(seconds, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiting.discard(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
