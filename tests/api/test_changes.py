"""Waiting for something that everybody is to hear of."""

from __future__ import annotations

import asyncio

from onsembl.api.broadcast import Changes


async def waiting(changes: Changes, seconds: float) -> asyncio.Task[None]:
    """One that waits by now."""
    task = asyncio.create_task(changes.wait(seconds))
    await asyncio.sleep(0)
    return task


async def test_all_who_wait_are_woken_at_once():
    changes = Changes()
    tasks = [await waiting(changes, 3600) for _ in range(3)]
    later = asyncio.create_task(changes.wait(3600))  # does not wait yet
    changes.tell()
    await asyncio.gather(*tasks)
    assert not later.done()
    changes.tell()
    await later


async def test_who_has_waited_long_enough_goes_on():
    changes = Changes()
    patient = await waiting(changes, 3600)
    await changes.wait(0.01)
    await changes.wait(0)
    assert not patient.done()
    changes.tell()
    await patient


async def test_who_is_gone_is_not_woken():
    """Also in the turn of the loop in which it goes."""
    changes = Changes()
    gone, there = await waiting(changes, 3600), await waiting(changes, 3600)
    changes.tell()
    gone.cancel()
    await there
    await asyncio.wait({gone})
    assert gone.cancelled()
    leaving = await waiting(changes, 3600)
    leaving.cancel()
    changes.tell()
    await asyncio.wait({leaving})
    assert leaving.cancelled()
