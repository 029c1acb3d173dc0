"""The browser that the tests share."""

from __future__ import annotations

from contextlib import suppress

from playwright.async_api import Error
from support.browsers import Browsers


async def test_a_browser_that_has_crashed_is_replaced() -> None:
    """After a crash the next test gets a new browser, and a working browser is kept."""
    browsers = Browsers()
    browser = await browsers.running()
    assert await browsers.running() is browser
    session = await browser.new_browser_cdp_session()
    with suppress(Error):  # the crashed browser does not answer
        await session.send("Browser.crash")
    replaced = await browsers.running()
    assert replaced is not browser
    page = await replaced.new_page()
    await page.set_content("it works")
    assert await page.inner_text("body") == "it works"
    await browsers.stop()
