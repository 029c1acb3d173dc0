"""Has the time limit of a test end it also while an event loop runs, and end nothing else.

pytest-timeout raises an exception where the process is. Within a callback the loop logs it and goes on; uvloop also
while it waits. So the tasks are cancelled, too, and that is repeated until the test ends. While pytest makes or sends
a report, the exception would end the whole run: there the limit waits.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from typing import Any

import pytest

REPEAT_SECONDS = 60.0
"""Time for the test to clean up, before it is ended again."""
BETWEEN_PHASES_SECONDS = 0.2
"""How soon the test is ended whose limit was reached while none of its code ran."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(settings: Any) -> Generator[None, object, object]:
    """Add to the timer of pytest-timeout, which stops it when the test has failed."""
    outcome = yield
    if settings.method == "signal":
        fail: Any = signal.getsignal(signal.SIGALRM)

        def end_test(*arguments: object) -> None:
            if _phase.runs:
                _cancel_tasks()
                fail(*arguments)
            else:
                signal.setitimer(signal.ITIMER_REAL, BETWEEN_PHASES_SECONDS, REPEAT_SECONDS)

        signal.signal(signal.SIGALRM, end_test)
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, REPEAT_SECONDS)
    return outcome


class _Phase:
    """Whether the set-up, the call or the clean-up of a test runs, whose exceptions fail the test."""

    runs = False


_phase = _Phase()


def _limited() -> Generator[None, object, object]:
    _phase.runs = True
    try:
        return (yield)
    finally:
        _phase.runs = False


pytest_runtest_setup = pytest.hookimpl(wrapper=True, tryfirst=True)(_limited)
pytest_runtest_call = pytest.hookimpl(wrapper=True, tryfirst=True)(_limited)
pytest_runtest_teardown = pytest.hookimpl(wrapper=True, tryfirst=True)(_limited)


def _cancel_tasks() -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    for task in asyncio.all_tasks(loop):
        task.cancel("the test's time limit")
