"""Terminals under faults: viewers and the archive get exactly the bytes that were written.

`ONSEMBL_CHAOS_FAULTS` is the number of faults in the long form (default 200, at least 10). `--seed` repeats the random
choices of a run, which prints its seed.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack

import pytest
from chaos.chaos import ACKNOWLEDGED_BEFORE_IT_IS_ARCHIVED, Chaos
from support.missing_guards import without

SHORT, MIDDLE, LONG = 10, 12, int(os.environ.get("ONSEMBL_CHAOS_FAULTS", "200"))


@pytest.mark.seconds(15)
@pytest.mark.parametrize(
    ("faults", "agents"),
    [
        pytest.param(SHORT, 1, id="short"),
        pytest.param(MIDDLE, 2, id="middle", marks=pytest.mark.soak),
        pytest.param(LONG, 3, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(600 + LONG * 5)]),
    ],
)
async def test_no_byte_is_lost_or_repeated_under_faults(own_postgres, tmp_path, seed, faults, agents):
    """Viewers and the archive get every byte once, although links are cut, viewers pause and parts are killed."""
    async with AsyncExitStack() as stack:
        chaos = Chaos(seed, stack, agents)
        await chaos.start(own_postgres, tmp_path)
        await chaos.run(chaos.choose_faults(faults))
        print(f"done: {dict(chaos.done)}, {len(chaos.left)} visitors left, {len(chaos.visitors)} stayed")
        assert chaos.left, "no visitor came and left"
        await chaos.check_end()


SEEN_TWICE = """
from onsembl.api.terminals import viewer
from onsembl.protocol.ring import AttachAnswer

def attach(ring, stream_id, wanted_stream, wanted_offset, upto=0):
    return AttachAnswer("tail" if wanted_stream is None else "exact", ring.start)

viewer.attach = attach
"""


@pytest.mark.parametrize(
    ("patch", "fault", "found"),
    [
        (ACKNOWLEDGED_BEFORE_IT_IS_ARCHIVED, Chaos.kill_api_before_it_archives, "the archive differs"),
        (SEEN_TWICE, Chaos.cut_viewers, r"a (viewer|visitor) differs"),
    ],
    ids=["an early acknowledgement", "a viewer that restarts"],
)
async def test_one_fault_reveals_a_missing_guard(own_postgres, tmp_path, seed, patch, fault, found):
    """Without a guard, one fault of the right kind loses or repeats bytes, and the comparison fails."""
    async with AsyncExitStack() as stack:
        chaos = Chaos(seed, stack, agents=1)
        await chaos.start(own_postgres, tmp_path, **without(tmp_path / "guard", patch))
        await chaos.run([fault.__get__(chaos)])
        with pytest.raises(AssertionError, match=found):
            await chaos.check_end()
