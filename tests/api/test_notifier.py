"""The notifier wakes every task that waits for an event."""

from __future__ import annotations

import asyncio

from onsembl.api.notifier import Notifier


async def waiting(notifier: Notifier, seconds: float) -> asyncio.Task[None]:
    """Start a task that waits by the time it is returned."""
    task = asyncio.create_task(notifier.wait(seconds))
    await asyncio.sleep(0)
    return task


async def test_all_who_wait_are_woken_at_once():
    """A notification wakes all tasks that wait, at once."""
    notifier = Notifier()
    tasks = [await waiting(notifier, 3600) for _ in range(3)]
    later = asyncio.create_task(notifier.wait(3600))  # This task does not wait yet.
    notifier.notify_all()
    await asyncio.gather(*tasks)
    assert not later.done()
    notifier.notify_all()
    await later


async def test_either_notifier_wakes():
    """A task that waits for two notifiers is woken by either, and then waits for neither."""
    one, other = Notifier(), Notifier()
    for notifier in (one, other):
        task = asyncio.create_task(one.wait(3600, other))
        await asyncio.sleep(0)
        notifier.notify_all()
        await task
    assert not one._waiting and not other._waiting


async def test_who_has_waited_long_enough_goes_on():
    """A task continues when its timeout has passed."""
    notifier = Notifier()
    patient = await waiting(notifier, 3600)
    await notifier.wait(0.01)
    await notifier.wait(0)
    assert not patient.done()
    notifier.notify_all()
    await patient


async def test_who_is_gone_is_not_woken():
    """A task that was cancelled is not woken, even if both happen in the same turn of the loop."""
    notifier = Notifier()
    gone, there = await waiting(notifier, 3600), await waiting(notifier, 3600)
    notifier.notify_all()
    gone.cancel()
    await there
    await asyncio.wait({gone})
    assert gone.cancelled()
    leaving = await waiting(notifier, 3600)
    leaving.cancel()
    notifier.notify_all()
    await asyncio.wait({leaving})
    assert leaving.cancelled()
