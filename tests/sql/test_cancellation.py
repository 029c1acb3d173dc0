"""A background task ends even if its first cancellation is lost."""

from __future__ import annotations

import asyncio

import pytest

from onsembl.sql.cancellation import cancel_until_done


async def test_a_lost_cancellation_is_repeated():
    """A cancellation that the task loses is repeated, as when its event arrives in the same turn of the loop."""
    lost = 0

    async def loses_two() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost > 2:
                    raise

    async def ends() -> None:
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(loses_two()), asyncio.create_task(ends())]
    await asyncio.sleep(0)
    await cancel_until_done(tasks)
    assert lost == 3 and all(task.cancelled() for task in tasks)


async def test_what_a_task_raised_stays_with_it():
    """A task's exception stays with the task, whose owner reads it."""

    async def fails() -> None:
        raise LookupError("there is none")

    task = asyncio.create_task(fails())
    await asyncio.wait({task})
    await cancel_until_done([task])
    with pytest.raises(LookupError):
        task.result()
