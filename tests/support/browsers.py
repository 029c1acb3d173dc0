"""One browser for all browser tests of a process."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress

from playwright.async_api import Browser, Error, async_playwright
from support.chromium import ARGUMENTS, chromium_path


class Browsers:
    """Holds the running browser. A crashed browser is replaced, so that only the test in which it crashed fails."""

    def __init__(self) -> None:
        self._started = AsyncExitStack()
        self._browser: Browser | None = None

    async def running(self) -> Browser:
        """The running browser; a new one if it does not answer."""
        if self._browser is not None and not await _answers(self._browser):
            await self.stop()
        if self._browser is None:
            self._browser = await self._start()
        return self._browser

    async def stop(self) -> None:
        """End the browser and its driver, which may have crashed."""
        self._browser = None
        with suppress(Error):
            await self._started.aclose()

    async def _start(self) -> Browser:
        playwright = await self._started.enter_async_context(async_playwright())
        path = chromium_path(playwright.chromium.executable_path)
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        self._started.push_async_callback(browser.close)
        return browser


async def _answers(browser: Browser) -> bool:
    try:
        context = await browser.new_context()
        await context.close()
    except Error:
        return False
    return True
