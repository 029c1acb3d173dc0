"""A background task ends even if its first cancellation is lost."""

from __future__ import annotations

import asyncio

import pytest

from onsembl.sql.cancellation import cancel_until_done, run_together


async def test_a_lost_cancellation_is_repeated():
    """A cancellation that the task loses is repeated, as when its event arrives in the same turn of the loop."""
    loses_two = LosesTwo()
    tasks = [asyncio.create_task(loses_two.run()), asyncio.create_task(asyncio.Event().wait())]
    await asyncio.sleep(0)
    await cancel_until_done(tasks)
    assert loses_two.cancelled == 3 and all(task.cancelled() for task in tasks)


class LosesTwo:
    """A task that loses its first two cancellations."""

    cancelled = 0

    async def run(self) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                if self.cancelled > 2:
                    raise


async def test_what_a_task_raised_stays_with_it():
    """A task's exception stays with the task, whose owner reads it."""

    async def fails() -> None:
        raise LookupError("there is none")

    task = asyncio.create_task(fails())
    await asyncio.wait({task})
    await cancel_until_done([task])
    with pytest.raises(LookupError):
        task.result()


async def fails(after: asyncio.Event) -> None:
    await after.wait()
    raise LookupError("there is none")


async def test_tasks_that_run_together_end_together():
    """One fails, or their task is cancelled, perhaps again: all end, also one that loses its cancellation."""
    never, now = asyncio.Event(), asyncio.Event()
    now.set()
    loses_two = LosesTwo()
    with pytest.raises(LookupError):
        await run_together(loses_two.run(), fails(now))
    assert loses_two.cancelled == 3
    loses_two = LosesTwo()
    together = asyncio.create_task(run_together(loses_two.run(), fails(never)))
    await asyncio.sleep(0)
    await cancel_until_done([together], again=0.05)
    assert together.cancelled() and loses_two.cancelled == 3
