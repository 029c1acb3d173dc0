"""A real browser on the page as it ships: built, and served under its content security policy."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from playwright.async_api import Browser, ConsoleMessage, Error, Page, ViewportSize, async_playwright, expect
from support.chromium import ARGUMENTS, chromium_path
from support.server import PASSWORD, Api, running

from onsembl.api.settings import Settings
from onsembl.cli.dashboard import dashboard_files
from onsembl.tasks.worker import WorkerSettings

expect.set_options(timeout=60_000)

DESK: ViewportSize = {"width": 1440, "height": 900}


@dataclass
class Console:
    """What a page complains of. A test that causes a complaint says so; any other one fails it."""

    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def expect(self, pattern: str) -> None:
        self.expected.append(pattern)

    def heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def thrown(self, error: Error) -> None:
        self.complaints.append(f"{error}")

    def unexpected(self) -> list[str]:
        return [text for text in self.complaints if not any(re.search(pattern, text) for pattern in self.expected)]


class Visitor:
    """A person at one window."""

    def __init__(self, page: Page, url: str, console: Console) -> None:
        self.page = page
        self.url = url
        self.console = console

    async def sign_in(self, email: str, password: str = PASSWORD, path: str = "/") -> None:
        """Come to the page, sign in, and wait until it is live."""
        await self.page.goto(self.url + path)
        await self.page.get_by_label("E-mail").fill(email)
        await self.page.get_by_label("Password").fill(password)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.live()

    async def live(self) -> None:
        await expect(self.page.locator('[data-mark="live"]')).to_be_visible()

    async def attached(self) -> None:
        """The terminal is attached and drawn as far as it has come."""
        await expect(self.page.locator('.host[data-link="attached"]')).to_be_visible()

    async def terminal(self) -> str:
        """All that the terminal holds."""
        return await self.page.evaluate("() => window.onsembl.terminal.text()")

    async def sees(self, text: str) -> None:
        """Wait until the terminal holds `text`."""
        try:
            await self.page.wait_for_function("(text) => window.onsembl.terminal.text().includes(text)", arg=text)
        except Error as error:
            raise AssertionError(f"{text!r} is not in the terminal:\n{await self.terminal()}") from error

    async def send(self, text: str, priority: int | None = None) -> None:
        box = self.page.get_by_role("textbox", name="Command for")
        await box.fill(text)
        if priority is not None:
            await self.page.get_by_label("Priority").select_option(str(priority))
        await box.press("Enter")

    def command(self, text: str, state: str | None = None):
        """The command's row, in a state when one is given."""
        where = "li[data-command]" if state is None else f'li[data-command][data-state="{state}"]'
        return self.page.locator(where).filter(has=self.page.get_by_text(text, exact=True))


Visit = Callable[..., "AsyncGenerator[Visitor]"]


@pytest.fixture(scope="session")
def dashboard() -> Path:
    """The page, built from the sources as they are."""
    files = dashboard_files(print)
    assert files is not None
    return files


@pytest.fixture
async def browser() -> AsyncGenerator[Browser]:
    async with async_playwright() as playwright:
        path = chromium_path(playwright.chromium.executable_path)
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def visit(browser: Browser) -> AsyncGenerator[Callable[..., object]]:
    """Opens windows; when the test is over, none of them may have complained."""
    consoles: list[Console] = []
    async with AsyncExitStack() as stack:

        async def open_window(url: str, size: ViewportSize = DESK, **options: object) -> Visitor:
            context = await browser.new_context(viewport=size, **options)  # pyright: ignore[reportArgumentType]
            stack.push_async_callback(context.close)
            page = await context.new_page()
            console = Console()
            consoles.append(console)
            page.on("console", console.heard)
            page.on("pageerror", console.thrown)
            return Visitor(page, url, console)

        yield open_window
    assert [text for console in consoles for text in console.unexpected()] == []


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, public_url="", worker=WorkerSettings(dead_after=2.0))


@pytest.fixture
async def center(settings: Settings, dashboard: Path) -> AsyncGenerator[Api]:
    """A control center in this process, with its page."""
    async with running(replace(settings, dashboard=dashboard)) as api:
        yield api
