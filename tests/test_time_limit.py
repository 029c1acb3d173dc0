"""The time limit of a test ends it, whatever an event loop does with the exception."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import uvloop

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
CONFTEST = """
import signal
from support.time_limit import *

def pytest_runtest_logreport(report):
    if report.nodeid.endswith("::test_passes"):
        signal.raise_signal(signal.SIGALRM)
"""


def run_tests(folder: Path, *, limit: float, conftest: str, tests: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_it.py").write_text(tests)
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder)),
            *("-o", f"pythonpath={Path(__file__).parent}", "-o", f"timeout={limit}", str(folder)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
        timeout=150,
    )


def test_a_limit_ends_a_test_within_an_event_loop(tmp_path: Path):
    """Whether the loop waits, or is in a callback, or in one after the other."""
    result = run_tests(tmp_path, limit=0.2, conftest="from support.time_limit import *\n", tests=TESTS)
    assert result.returncode == 1, result.stdout
    assert "6 failed" in result.stdout, result.stdout


def test_a_limit_between_the_phases_of_a_test_ends_no_run(tmp_path: Path):
    """The limit is reached while pytest passes a report on, where an exception would end all tests."""
    result = run_tests(tmp_path, limit=60.0, conftest=CONFTEST, tests="def test_passes(): pass\n")
    assert result.returncode == 0, result.stdout
    assert "1 passed" in result.stdout, result.stdout


async def test_asynchronous_tests_run_in_the_loop_of_the_server():
    """pytest-asyncio takes the loop's factory from our fixture, which would have no effect under another name."""
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
