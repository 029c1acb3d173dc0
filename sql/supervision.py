"""Runs background work that must not end, and starts it again whenever it fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import cast

from onsembl.protocol.restarts import RestartPolicy
from onsembl.sql.database import DATABASE_ERRORS

logger = logging.getLogger(__name__)


class Failed(Exception):
    """A failure that its text explains: it is logged without a traceback."""


class GaveUp(Exception):
    """The work fails again after each restart."""


def is_own(error: BaseException) -> bool:
    """Whether the work itself has failed. An error of the database passes when the database is back."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_own, cast("BaseExceptionGroup[BaseException]", error).exceptions))
    return not isinstance(error, DATABASE_ERRORS)


async def supervise(
    name: str,
    work: Callable[[], Awaitable[None]],
    policy: RestartPolicy | None = None,
    counts: Callable[[Exception], bool] = is_own,
) -> None:
    """Run `work` until it returns or this is cancelled; start it again, after a delay, whenever it raises.

    Errors for which `counts` is false delay the next start and never lead to giving up. Raises GaveUp.
    """
    policy = policy or RestartPolicy()
    while True:
        policy.started(time.monotonic())
        try:
            return await work()
        except Exception as error:
            delay = policy.failed(time.monotonic(), counts=counts(error))
            if delay is None:
                raise GaveUp(f"{name} fails again after each restart: {error}") from error
            logger.log(
                logging.ERROR,
                "%s has failed and starts again in %.1f s: %s",
                name,
                delay,
                error,
                exc_info=None if isinstance(error, Failed) else error,
                extra={"action": "restarted", "part": name},
            )
        await asyncio.sleep(delay)


def start_supervised(
    name: str, work: Callable[[], Awaitable[None]], on_failure: Callable[[Exception], None]
) -> asyncio.Task[None]:
    """Start `work` under supervision, in a task. `on_failure` gets the error when it is given up."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            logger.critical("%s", error, extra={"action": "gave_up", "part": name})
            on_failure(error)

    task = asyncio.create_task(supervise(name, work), name=name)
    task.add_done_callback(ended)
    return task
