"""The time limit of a test ends it, whatever an event loop does with the exception."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import asyncio, time
import pytest, uvloop

def in_callback():
    asyncio.get_running_loop().call_soon(time.sleep, 3600)

def in_callbacks():
    asyncio.get_running_loop().call_soon(in_callbacks)

@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("begin", [lambda: None, in_callback, in_callbacks], ids=["waits", "once", "repeatedly"])
def test_hangs(begin, loop):
    async def hang():
        begin()
        await asyncio.Future()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(hang())
"""


def test_a_limit_ends_a_test_within_an_event_loop(tmp_path: Path):
    """Whether the loop waits, or is in a callback, or in one after the other."""
    (tmp_path / "conftest.py").write_text("from support.time_limit import pytest_timeout_set_timer\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)),
            *("-o", f"pythonpath={Path(__file__).parent}", "-o", "timeout=0.2", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
        timeout=60,
    )
    assert result.returncode == 1, result.stdout
    assert "6 failed" in result.stdout, result.stdout
