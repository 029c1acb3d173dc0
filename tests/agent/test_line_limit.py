"""The longest line of a terminal that gives its program whole lines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.drivers.shell import ShellDriver
from onsembl.agent.process.line_limit import MAX_LINE_BYTES, LineLimit
from onsembl.protocol.messages import Offer

LONGEST = b"x" * MAX_LINE_BYTES


@given(st.lists(st.binary(max_size=3 * MAX_LINE_BYTES) | st.sampled_from([LONGEST, LONGEST[:1000], b"\r", b"\x15"])))
def test_no_line_is_accepted_that_the_kernel_would_cut(parts: list[bytes]):
    """However a paste is split into messages, each line of what is accepted fits; Ctrl-U and the like begin it anew."""
    limit = LineLimit()
    typed = b"".join(part for part in parts if limit.accepts(part.replace(b"\x7f", b""), canonical=True))
    for begin in b"\n\x03\x04\x15\x1a\x1c":
        typed = typed.replace(bytes([begin]), b"\r")
    assert all(len(line.replace(b"\x7f", b"")) <= MAX_LINE_BYTES for line in typed.split(b"\r"))


def test_a_raw_terminal_has_no_lines():
    """A program that reads each key gets a text of any length, and a line that begins afterwards is counted anew."""
    limit = LineLimit()
    assert limit.accepts(LONGEST, canonical=True)
    assert limit.accepts(LONGEST * 10, canonical=False)
    assert limit.accepts(LONGEST, canonical=True)
    assert not limit.accepts(b"x", canonical=True)
    assert limit.accepts(b"\x7fx\r", canonical=True)


@pytest.mark.parametrize(("line", "rejection"), [(LONGEST, None), (LONGEST + b"x", "line_too_long")])
async def test_a_line_reaches_its_program_whole_or_not_at_all(context, shown, tmp_path, line, rejection):
    """The kernel's limit is ours: the longest line arrives uncut, and a longer one is rejected with the reason."""
    offer = Offer(command_id=uuid4(), text=f"echo ready; head -n 1 > {tmp_path}/read")
    process = ShellDriver().start(offer, context).process
    await shown.until(b"ready")
    assert process.type(line + b"\r") == rejection
    if rejection is not None:
        process.type(b"short\r")
    async with asyncio.timeout(30):
        await process.exited
    process.close()
    assert Path(tmp_path / "read").read_bytes() == (b"short\n" if rejection else line + b"\n")
