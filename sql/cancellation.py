"""Ending background tasks that wait for the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def cancel_until_done(tasks: Iterable[asyncio.Task[Any]], *, again: float = 0.5) -> None:
    """Cancel tasks and wait for their end; what they raised stays with them.

    `again` is longer, in seconds, than they take to end well: the second cancellation ends that, too.

    psycopg waits with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that comes together with what
    it waited for (https://github.com/python/cpython/issues/86296): a task that loops for ever would go on. So each is
    cancelled again until it has ended.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=again)
