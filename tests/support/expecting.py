"""Playwright's `expect`, without the picture of the page at each attempt, and with more attempts at first.

An expectation that is not met yet describes the page as a screen reader would tell it, for its error message, and does
so anew at each attempt while its element is not there: on a page with hundreds of rows, that is most of the work of a
test. This one waits for the element first, and fails as Playwright's own does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal

from playwright.async_api import Error, Locator, Page, TimeoutError
from playwright.async_api import expect as expect_at_once

ABSENCE = ("to_be_hidden", "to_have_count")
"""What is true of an element that is not there, as all that begins with `not_` may be."""
SOON_MS = 900
"""With so little patience, Playwright looks ten times a second; with more, after a quarter of a second only twice."""
NO_LONGER_MS = 1


class Expectation:
    """What is expected of an element, as Playwright's `LocatorAssertions`."""

    def __init__(self, locator: Locator) -> None:
        self._locator = locator

    def __getattr__(self, name: str) -> Callable[..., Awaitable[None]]:
        expected = getattr(expect_at_once(self._locator), name)

        async def soon_or_later(*values: Any, **options: Any) -> None:
            if not (name.startswith("not_") or name in ABSENCE):
                is_all = name == "to_be_visible" and not values and not options.keys() - {"timeout"}
                try:
                    await self._until("visible" if is_all else "attached", options.get("timeout"))
                except TimeoutError:
                    options["timeout"] = NO_LONGER_MS  # it fails, and says why
                except Error:  # several elements: some expectations are about them
                    pass
                else:
                    if is_all:
                        return
            if "timeout" not in options:
                with suppress(AssertionError):
                    await expected(*values, timeout=SOON_MS, **options)
                    return
            await expected(*values, **options)

        return soon_or_later

    async def _until(self, state: Literal["attached", "visible"], patience_ms: float | None) -> None:
        """Wait until the element is there."""
        if patience_ms is None:
            with suppress(TimeoutError):
                await self._locator.wait_for(state=state, timeout=SOON_MS)
                return
        await self._locator.wait_for(state=state, timeout=patience_ms)


def expect(actual: Locator | Page) -> Any:
    """What is expected of an element or a page within the patience of the tests, as of Playwright's `expect`."""
    return Expectation(actual) if isinstance(actual, Locator) else expect_at_once(actual)
