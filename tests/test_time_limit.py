"""The time limit of a test ends it, also when an event loop takes the exception for one of its callbacks'."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import asyncio, signal

async def hang():
    asyncio.get_running_loop().call_soon(signal.pause)
    await asyncio.Future()

def test_hangs():
    asyncio.run(hang())
"""


def test_a_limit_that_a_callback_has_taken_is_raised_again(tmp_path: Path):
    """The first time it comes within the callback, and the test goes on waiting."""
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
    assert "Exception in callback" in result.stdout and "1 failed" in result.stdout, result.stdout
