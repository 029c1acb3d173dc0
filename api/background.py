"""What is done beside all else, so that whoever asks for it need not wait for a connection that is full."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from onsembl.sql.cancellation import cancel_until_done

logger = logging.getLogger(__name__)


class Errands:
    """Each a task of its own, until it is done or the process stops. One that waits for an agent's connection ends with
    that, at the latest when its heartbeat is missed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, errand: Coroutine[Any, Any, object]) -> None:
        """Start one. What it raises is logged."""
        task = asyncio.create_task(errand)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def stop(self) -> None:
        """Cut short what is not done."""
        await cancel_until_done(list(self._tasks))

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("An errand failed: %s", error, exc_info=error, extra={"action": "errand_failed"})
