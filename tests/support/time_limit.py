"""Has the time limit of a test end it also while an event loop runs.

pytest-timeout raises an exception where the process is. Within a callback the loop logs it and goes on; uvloop also
while it waits. So the tasks are cancelled, too, and that is repeated until the test ends.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from typing import Any

import pytest

REPEAT_SECONDS = 60.0
"""Time for the test to clean up, before it is ended again."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(settings: Any) -> Generator[None, object, object]:
    """Add to the timer of pytest-timeout, which stops it when the test has failed."""
    outcome = yield
    if settings.method == "signal":
        fail: Any = signal.getsignal(signal.SIGALRM)

        def end_test(*arguments: object) -> None:
            _cancel_tasks()
            fail(*arguments)

        signal.signal(signal.SIGALRM, end_test)
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, REPEAT_SECONDS)
    return outcome


def _cancel_tasks() -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    for task in asyncio.all_tasks(loop):
        task.cancel("the test's time limit")
