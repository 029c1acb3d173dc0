"""News about a command: a state is as valid as its row, unless other news arrived before it was taken."""

from __future__ import annotations

import asyncio

import pytest

from onsembl.protocol.states import CommandState
from onsembl.tasks.watch import CommandChanges

OVER = CommandState.SUCCEEDED


@pytest.mark.parametrize(
    ("heard", "taken"),
    [([], None), ([None], None), ([OVER], OVER), ([None, OVER], None), ([OVER, None], None), ([OVER, OVER], OVER)],
)
def test_what_is_taken_of_what_was_heard(heard, taken):
    """Taking returns the news and forgets them."""
    changes = CommandChanges()
    for state in heard:
        changes.hear(state)
    assert changes.take() == taken
    assert changes.take() is None


async def test_a_change_wakes_who_waits_once():
    """A change wakes the waiting task once: a change before the wait is not missed, and a taken change wakes no
    task."""
    changes = CommandChanges()
    changes.hear(OVER)
    await changes.wait()
    changes.take()
    waiting = asyncio.create_task(changes.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    changes.hear(None)
    await waiting
