"""Repeats the time limit of a test, which pytest-timeout raises once, until the test ends.

Raised within a callback of an event loop, the limit is only logged, and a test whose callbacks follow each other would
run for ever.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from typing import Any

import pytest

REPEAT_SECONDS = 20.0
"""Time for the test to clean up, before the limit is raised again."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(settings: Any) -> Generator[None, object, object]:
    """Let the timer of pytest-timeout, which cancels it when the test has failed, go off repeatedly."""
    outcome = yield
    if settings.method == "signal":
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, min(settings.timeout, REPEAT_SECONDS))
    return outcome
