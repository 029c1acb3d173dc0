"""A notifier: coroutines wait, each with a timeout of its own, until something has changed."""

from __future__ import annotations

import asyncio


class Notifier:
    """Wakes every waiting coroutine at each change.

    Thousands of coroutines may wait: to begin or end a wait takes the same time however many others wait.
    """

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def notify_all(self) -> None:
        """Wake every coroutine that waits now."""
        for waiter in self._waiting:
            _wake(waiter)

    async def wait(self, seconds: float, *others: Notifier) -> None:
        """Wait for the next change of this notifier or of another one, for at most `seconds`."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        notifiers = (self, *others)
        for notifier in notifiers:
            notifier._waiting.add(waiter)
        timer = loop.call_later(seconds, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            for notifier in notifiers:
                notifier._waiting.discard(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
