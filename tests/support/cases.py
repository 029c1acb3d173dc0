"""Many cases of one test on the same fixtures: where each case would start a control center of its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest


def cases(
    names: str | tuple[str, ...], values: Sequence[Any]
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]:
    """Run the test for each of the values as a subtest, with the same fixtures; else like pytest's `parametrize`."""
    parameters = (names,) if isinstance(names, str) else names

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(test)
        async def run(subtests: pytest.Subtests, **fixtures: Any) -> None:
            for value in values:
                case = dict(zip(parameters, (value,) if isinstance(names, str) else value, strict=True))
                with subtests.test(**case):
                    await test(**fixtures, **case)

        own = [inspect.Parameter("subtests", inspect.Parameter.KEYWORD_ONLY)]
        kept = [p for p in inspect.signature(test).parameters.values() if p.name not in parameters]
        run.__signature__ = inspect.Signature([*kept, *own])  # type: ignore[attr-defined]
        return run

    return decorate
