"""The tests' own `expect`: what it says, and when it fails."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser
from support.expecting import expect


async def test_what_is_expected_is_awaited_and_reported(browser: Browser) -> None:
    """It waits for an element that comes later, fails with Playwright's words where none comes or it is another, and
    takes several elements only where the expectation is about several."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.set_content("<p>one</p><p>two</p><i hidden>hid</i><b>first</b>")
    await page.evaluate(
        "setTimeout(() => document.body.append(Object.assign(document.createElement('h1'), "
        "{ textContent: 'late' })), 300)"
    )
    await expect(page.locator("h1")).to_have_text("late")
    await expect(page.locator("h1")).to_be_visible()
    await expect(page.locator("p")).to_have_text(["one", "two"])
    await expect(page.locator("h2")).to_be_hidden()
    await expect(page.locator("h2")).not_to_be_visible()
    await expect(page.locator("p")).to_have_count(2)
    for failing, said in (
        (expect(page.locator("h2")).to_be_visible(timeout=100), "element\\(s\\) not found"),
        (expect(page.locator("h2")).to_have_text("x", timeout=100), "element\\(s\\) not found"),
        (expect(page.locator("i")).to_be_visible(timeout=100), "hidden"),
        (expect(page.locator("p")).to_be_visible(timeout=100), "strict mode violation"),
        (expect(page.locator("b")).to_have_text("second", timeout=100), "first"),
    ):
        with pytest.raises(AssertionError, match=said):
            await failing
    await context.close()
