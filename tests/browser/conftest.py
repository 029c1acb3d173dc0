"""A real browser on the page as it ships: built, and served under its content security policy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from inspect import iscoroutinefunction
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Error, Locator, Page, ViewportSize
from playwright.async_api import expect as expect_at_once
from support.browsers import Browsers
from support.expecting import expect
from support.page import built_page
from support.server import PASSWORD, Api, running

from onsembl.api.settings import Settings

PATIENCE_MS = 60_000
"""How long a test waits for the page, in milliseconds."""
expect_at_once.set_options(timeout=PATIENCE_MS)

TASKS_END_SECONDS = 10.0
"""The time for which tasks may continue after the end of their test."""
POLLING_MS = 100
"""The interval between two checks of a condition that is slow to check."""
HOLDS = "(text) => window.onsembl.terminal.text().includes(text)"
LEAVE_SESSION = """(session) => {
    if (sessionStorage.getItem("session-was-left") !== null) return;
    sessionStorage.setItem("session-was-left", "yes");
    localStorage.setItem(`sb-${location.hostname.split(".")[0]}-auth-token`, JSON.stringify(session));
}"""
"""Stores a session as supabase-js does; only once in a window, so that a test may remove or change it."""
REMEMBER_NOTICES = """
    window.notices = [];
    new MutationObserver((changes) => {
        for (const { addedNodes } of changes) for (const node of addedNodes) {
            if (node instanceof Element && node.matches(".notice")) window.notices.push(node.textContent);
        }
    }).observe(document, { subtree: true, childList: true });
"""
NOTICED = "(text) => window.notices.some((notice) => notice.includes(text))"
BARE_SOCKETS_HEARTBEAT = 600.0
DESK: ViewportSize = {"width": 1440, "height": 900}


@dataclass
class Console:
    """Errors in a page's console. A test declares the errors that it causes; any other error fails it."""

    errors: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def expect(self, pattern: str) -> None:
        self.expected.append(pattern)

    def logged(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def thrown(self, error: Error) -> None:
        self.errors.append(f"{error}")

    def unexpected(self) -> list[str]:
        return [text for text in self.errors if not any(re.search(pattern, text) for pattern in self.expected)]


class Visitor:
    """A person at one window."""

    def __init__(self, page: Page, url: str, console: Console) -> None:
        self.page = page
        self.url = url
        self.console = console

    async def sign_in(self, email: str, password: str = PASSWORD, path: str = "/") -> None:
        """Open the page, sign in, and wait until the page is live."""
        await self.page.goto(self.url + path)
        await self.page.get_by_label("E-mail").fill(email)
        await self.page.get_by_label("Password").fill(password)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.live()

    async def come_back(self, email: str, path: str = "/") -> None:
        """Open the page with the session of an earlier visit, and wait until the page is live."""
        config = await (await self.page.request.get(f"{self.url}/config.json")).json()
        answer = await self.page.request.post(
            f"{self.url}/auth/v1/token?grant_type=password",
            headers={"apikey": config["supabase_key"]},
            data={"email": email, "password": PASSWORD},
        )
        assert answer.ok, await answer.text()
        await self.page.add_init_script(f"({LEAVE_SESSION})({await answer.text()})")
        await self.page.goto(self.url + path)
        await self.live()

    async def live(self) -> None:
        await expect(self.page.locator('[data-mark="live"]')).to_be_visible()

    async def attached(self) -> None:
        """Wait until the terminal is attached."""
        await expect(self.page.locator('.host[data-link="attached"]')).to_be_visible()

    async def terminal(self) -> str:
        """The text of the terminal, scrollback included."""
        return await self.page.evaluate("() => window.onsembl.terminal.text()")

    async def sees(self, text: str, patience_ms: int = PATIENCE_MS) -> None:
        """Wait until the terminal contains `text`."""
        try:
            await self.page.wait_for_function(HOLDS, arg=text, polling=POLLING_MS, timeout=patience_ms)
        except Error as error:
            raise AssertionError(f"{text!r} is not in the terminal:\n{await self.terminal()}") from error

    async def noticed(self, text: str) -> None:
        """Wait until a notice contains `text`, or has contained it: notices disappear after a few seconds."""
        try:
            await self.page.wait_for_function(NOTICED, arg=text, polling=POLLING_MS)
        except Error as error:
            notices = await self.page.evaluate("() => window.notices")
            raise AssertionError(f"no notice contains {text!r}: {notices}") from error

    async def cancel(self, row: Locator) -> None:
        """Cancel the row's command by two presses, sent together: the page drops a first press after a few seconds,
        which on a busy machine may be before the second one arrives."""
        await row.get_by_role("button", name=re.compile("^Cancel (?!with a reason)")).dblclick()

    async def tap_twice(self, button: Locator) -> None:
        """Tap a button twice, both taps sent together."""
        await button.tap(trial=True)  # waits until the button does not move and is not covered
        box = await button.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        await asyncio.gather(*[self.page.touchscreen.tap(x, y) for _ in range(2)])

    async def send(self, text: str, priority: int | None = None) -> None:
        box = self.page.get_by_role("textbox", name="Command for")
        await box.fill(text)
        if priority is not None:
            await self.page.get_by_label("Priority").select_option(str(priority))
        await box.press("Enter")

    def command(self, text: str, state: str | None = None) -> Locator:
        """The row of a command; with `state`, only in this state."""
        where = "li[data-command]" if state is None else f'li[data-command][data-state="{state}"]'
        return self.page.locator(where).filter(has=self.page.get_by_text(text, exact=True))


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(name: str, obj: object) -> None:
    """Run all asynchronous tests of this folder in one event loop, the browser's.

    The mark is put on the function, because pytest-asyncio reads it before there are items. A test of agents ends that
    loop and the browser (tests/agent/conftest.py). One that is not asynchronous has no browser.
    """
    if name.startswith("test_") and iscoroutinefunction(obj):
        pytest.mark.asyncio(loop_scope="session")(obj)
        pytest.mark.usefixtures("browser")(obj)


@pytest.fixture(scope="session")
def dashboard() -> Path:
    """The page, built from the present sources."""
    return built_page()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browsers() -> AsyncGenerator[Browsers]:
    browsers = Browsers()
    yield browsers
    await browsers.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(browsers: Browsers) -> AsyncGenerator[Browser]:
    """The browser of all tests of this process. A test must leave no task in the event loop that they share."""
    browser = await browsers.running()
    before = asyncio.all_tasks()
    yield browser
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=TASKS_END_SECONDS)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert left == set(), "these tasks outlived their test"


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser) -> AsyncGenerator[Callable[..., object]]:
    """Opens windows; at the end of the test, no window may have an undeclared error in its console."""
    consoles: list[Console] = []
    async with AsyncExitStack() as stack:

        async def open_window(url: str, size: ViewportSize = DESK, **options: object) -> Visitor:
            context = await browser.new_context(viewport=size, reduced_motion="reduce", **options)  # type: ignore[arg-type]
            stack.push_async_callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            await context.add_init_script(REMEMBER_NOTICES)
            page = await context.new_page()
            console = Console()
            consoles.append(console)
            page.on("console", console.logged)
            page.on("pageerror", console.thrown)
            return Visitor(page, url, console)

        yield open_window
    assert [text for console in consoles for text in console.unexpected()] == []


@pytest.fixture
def settings(request: pytest.FixtureRequest, database_url: str) -> Settings:
    """Those of an instance. The agents of a test without a worker are bare sockets, which answer no ping: they stay
    connected for as long as a slow machine takes."""
    settings = Settings(database_url=database_url, public_url="")
    if request.node.get_closest_marker("no_worker"):
        return replace(settings, worker=None, heartbeat=BARE_SOCKETS_HEARTBEAT)
    return settings


@pytest_asyncio.fixture(loop_scope="session")
async def center(settings: Settings, dashboard: Path) -> AsyncGenerator[Api]:
    """A control center in this process, with its page."""
    async with running(replace(settings, dashboard=dashboard)) as api:
        yield api
