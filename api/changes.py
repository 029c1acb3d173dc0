"""Waiting for something that everybody is to hear of."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Changes:
    """Wakes all who wait, each time there is one."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        """There is one."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until the next one, or for so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._next.wait()
