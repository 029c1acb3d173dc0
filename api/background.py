"""Background tasks: work that a caller starts without waiting for it, such as a send over a full connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from onsembl.sql.cancellation import cancel_until_done

logger = logging.getLogger(__name__)

FINISH_SECONDS = 1.0
"""How long the background tasks of a process that stops may take to finish, in seconds."""


class BackgroundTasks:
    """Runs each coroutine as an asyncio task until it is done or the process stops.

    A task that sends to an agent waits at most until the agent's connection closes, which a missed heartbeat ensures.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Start a background task. An exception that it raises is logged."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def stop(self) -> None:
        """Wait for the tasks for at most `FINISH_SECONDS`, and cancel those that are still running then."""
        if tasks := list(self._tasks):
            await asyncio.wait(tasks, timeout=FINISH_SECONDS)
        await cancel_until_done(list(self._tasks))

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning(
                "A background task failed: %s", error, exc_info=error, extra={"action": "background_task_failed"}
            )
