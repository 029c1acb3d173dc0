"""Running and ending background tasks that wait for the database."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any


async def cancel_until_done(tasks: Iterable[asyncio.Task[Any]], *, again: float = 0.5) -> None:
    """Cancel tasks and wait until they end; the tasks keep their exceptions.

    `again` is the interval, in seconds, at which a task is cancelled again. It is longer than the tasks need for a
    clean end, since a second cancellation interrupts that end.

    psycopg waits with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that arrives together with the
    awaited result (https://github.com/python/cpython/issues/86296): a task with an endless loop would continue. So each
    task is cancelled repeatedly until it ends.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=again)


async def run_together(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run coroutines until one fails, until all have ended or until cancelled, and end the others then. Raises the
    exception of the first that has failed.

    A TaskGroup cancels each of its tasks once, also when it is cancelled again: with a task whose cancellation is lost
    (see `cancel_until_done`) it would never end.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        while not all(task.done() for task in tasks):
            with suppress(asyncio.CancelledError):  # the caller is cancelled again
                await cancel_until_done(tasks)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
