"""Every control of every page, dialog and menu is reached: zoomed to 200 % and 400 %, and with the keyboard alone."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from playwright.async_api import Page, Route, ViewportSize
from support.agents import Operator
from support.api_calls import call_api
from support.asking_agents import running
from support.expecting import expect
from support.pictures import picture
from support.reach import begin_in, lost, unreached
from support.recordings import add_output, add_size, add_stream
from support.reports import add_report, report_of
from support.server import Api

from onsembl.api.settings import Settings
from onsembl.sql.database import connect

ZOOMED: tuple[ViewportSize, ...] = ({"width": 640, "height": 400}, {"width": 320, "height": 256})
"""A window of 1280 × 800 pixels at 200 %, and one of 1280 × 1024 at 400 %."""
SHOWN = {
    "inbox": "npm test",
    "history": "do it",
    "presets": "Update|Review",
    "schedules": "nightly",
    "recordings": "bytes|MiB|KiB",
    "reports": "The cache is never cleared",
    "usage": "No turn ended",
    "statistics": "Agents connected",
    "audit": "operator",
    "access": "admin@",
    "approve": "a-host",
    "alerts": "used twice",
    "wall": "one",
    "stream": "done",
}
"""The pages, with what stands on each when it has read its rows."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place that a link leads to: its address, and what shows that it is complete."""

    path: str
    complete: str


@dataclass(frozen=True, slots=True)
class Opening:
    """What opens over a page."""

    path: str
    opener: str
    """The control that opens it, and to which the focus comes back."""
    view: str = ""
    """The view of a narrow page that has the control."""
    key: str = "Enter"
    shown: str = ".menu:popover-open"


DIALOG = "dialog[open]"
OPENINGS = {
    "pages": Opening("history", '[aria-label^="Pages:"]', shown="#pages:popover-open"),
    "account": Opening("history", '[aria-label^="Account:"]'),
    "palette": Opening("history", '[aria-label="Go to agent…"]', shown=DIALOG),
    "shortcuts": Opening("history", '[aria-label="Go to agent…"]', key="?", shown=DIALOG),
    "emergency stop": Opening("history", '[aria-label^="Stop all"]', shown=DIALOG),
    "filter": Opening("wall", 'button[aria-label="How to filter"]'),
    "agent's menu": Opening("agents/one", '[aria-label="More for one"]', "Terminal"),
    "limits": Opening("agents/one", '[aria-label^="Limits:"]', "Terminal"),
    "target": Opening("agents/one", '[title="Target"]', "Terminal"),
    "preset": Opening("agents/one", 'button[aria-label="Presets"]', "Terminal", shown=DIALOG),
    "menu in the list": Opening("agents/one", '[data-agent="one"]', "Agents", key="."),
    "enrol": Opening("agents/one", 'button[aria-label="Enrol an agent"]', "Agents", shown=DIALOG),
}
EDITORS = {"schedules": "New schedule", "presets": "New preset"}
FOLDER = {"path": "", "kind": "folder", "entries": [{"name": "a.py", "kind": "file", "size": 6}], "hidden": 1}
FILE = {"path": "a.py", "kind": "text", "size": 6, "text": "x = 1\n"}


@pytest.fixture
def settings(database_url: str) -> Settings:
    """The agents are bare sockets, which take no offer of a worker and answer no ping."""
    return Settings(database_url=database_url, public_url="", worker=None, heartbeat=3600)


@asynccontextmanager
async def busy(center: Api, operator: Operator) -> AsyncGenerator[dict[str, Place]]:
    """A fleet with something on each page. It has the places that only links lead to."""
    await call_api(operator, "POST", "/v1/enrolment-tokens", {}, 201)
    asked = {"name": "new", "kind": "shell", "host": "a-host", "version": "1"}
    assert (await center.http.post("/v1/device/authorization", data=asked)).is_success
    async with await connect(center.database_url, autocommit=True) as conn:
        await conn.execute(
            "insert into onsembl.alerts (kind, text) values ('refresh_token_reused', 'A token was used twice.')"
        )
    async with running(center, operator) as agent:
        await agent.ask()
        schedule = {"name": "nightly", "target": {"all": True}, "text": "make", "cron": "0 6 * * *"}
        await call_api(operator, "POST", "/v1/schedules", schedule, 201)
        stream = await add_stream(center, (await center.enrol("recorded")).id)
        await add_size(center, stream, 0, 80, 24)
        await add_output(center, stream, b"$ make\r\n", b"done\r\n")
        yield {
            "command": Place(f"command/{agent.command['id']}", f'[data-command="{agent.command["id"]}"]'),
            "player": Place(f"recordings/recorded/{stream}?at=0", '.player[data-state="paused"]'),
            "file": Place("files/one/a.py", ".code span, .monaco-editor .view-line"),
            "report": Place(
                f"reports/{await add_report(center, agent.agent.id, report_of(1))}", '[aria-label="Findings"] .code'
            ),
        }


async def looked(route: Route) -> None:
    """Answers a look at a file in the agent's place: it is a bare socket."""
    seen = FILE if "a.py" in route.request.url else FOLDER
    empty = {"entries": [], "hidden": 0, "omitted": 0}
    await route.fulfill(json={**empty, **seen})


async def opened(page: Page, url: str, name: str) -> None:
    await page.goto(f"{url}/#/{name}")
    shown = page.locator(f'[data-page="{name}"]')
    await expect(shown).to_contain_text(re.compile(SHOWN[name]))


async def led_to(page: Page, url: str, place: Place) -> None:
    await page.goto(f"{url}/#/{place.path}")
    await expect(page.locator(place.complete).first).to_be_visible()


@pytest.mark.seconds(8)
async def test_nothing_is_lost_when_zoomed(center: Api, visit) -> None:
    """At 200 % and at 400 % each control of each page can be scrolled into the window and is not covered. Nothing but
    tables and terminals is scrolled sideways."""
    account = await center.operator()
    found: list[str] = []
    async with busy(center, Operator(center, account)) as places:
        visitor = await visit(center.url)
        page = visitor.page
        await page.route("**/files?*", looked)
        await visitor.come_back(account.email)
        for size in ZOOMED:
            width = size["width"]
            await page.set_viewport_size(size)
            for name in SHOWN:
                await opened(page, center.url, name)
                found += [f"{name} {width}: {one}" for one in await lost(page)]
                await picture(page, f"zoom-{name}-{width}")
            for name, place in places.items():
                await led_to(page, center.url, place)
                found += [f"{name} {width}: {one}" for one in await lost(page)]
                await picture(page, f"zoom-{name}-{width}")
            await page.goto(f"{center.url}/#/agents/one")
            for view in ("Agents", "Terminal", "Commands"):
                await page.get_by_role("navigation", name="Views").get_by_role("button", name=view).click()
                found += [f"{view} {width}: {one}" for one in await lost(page)]
                await picture(page, f"zoom-{view}-{width}")
    assert found == [], "\n".join(found)


@pytest.mark.seconds(8)
async def test_every_control_is_reached_by_key(center: Api, visit) -> None:
    """The Tab key walks through every control of each page, and leads out of each again."""
    account = await center.operator()
    left: list[str] = []
    async with busy(center, Operator(center, account)) as places:
        visitor = await visit(center.url)
        page = visitor.page
        await page.route("**/files?*", looked)
        await visitor.come_back(account.email)
        for name, place in places.items():
            await led_to(page, center.url, place)
            await begin_in(page, "main")
            left += [f"{name}: {one}" for one in await unreached(page, "main")]
        for number, name in enumerate(SHOWN):
            await opened(page, center.url, name)
            within = "body" if number == 0 else "main"  # what is around the pages is the same
            await begin_in(page, within)
            left += [f"{name}: {one}" for one in await unreached(page, within)]
        await page.goto(f"{center.url}/#/agents/one")
        await visitor.attached()
        left += [f"agent: {one}" for one in await unreached(page)]
    assert left == [], "\n".join(left)


@pytest.mark.seconds(8)
async def test_what_opens_is_reached_and_left_by_key(center: Api, visit) -> None:
    """Each dialog, menu and editor is used at 200 % and 400 %. Tab walks through all of its controls; Escape closes
    it, and the focus is where it was."""
    account = await center.operator()
    found: list[str] = []
    async with busy(center, Operator(center, account)):
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back(account.email)
        for size in ZOOMED:
            width = size["width"]
            await page.set_viewport_size(size)
            for name, opening in OPENINGS.items():
                await page.goto(f"{center.url}/#/{opening.path}")
                if opening.view:
                    views = page.get_by_role("navigation", name="Views")
                    await views.get_by_role("button", name=opening.view).click()
                opener, shown = page.locator(opening.opener), page.locator(opening.shown)
                await opener.focus()
                await page.keyboard.press(opening.key)
                await expect(shown).to_be_visible()
                await expect(shown).to_contain_text(re.compile(r"\S"))  # some are loaded when they open
                found += [f"{name} {width}: {one}" for one in await lost(page, opening.shown)]
                await picture(page, f"zoom-{name}-{width}")
                walks = size == ZOOMED[0]
                if walks:
                    found += [f"{name}: {one}" for one in await unreached(page, opening.shown)]
                elif await shown.locator("a, button, input, select").count() > 0:
                    await page.keyboard.press("Tab")
                await page.keyboard.press("Escape")
                await expect(shown).to_have_count(0)
                if walks and opening.shown != DIALOG:
                    continue  # Tab has led out of the menu: the focus stays there
                if not await opener.evaluate("(one) => one === document.activeElement"):
                    found.append(f"{name}: the focus is lost")
            for name, button in EDITORS.items():
                await opened(page, center.url, name)
                await page.get_by_role("button", name=button).click()
                form = f'[data-page="{name}"] form'
                await expect(page.locator(form)).to_be_visible()
                found += [f"{button} {width}: {one}" for one in await lost(page, form)]
                await picture(page, f"zoom-{button}-{width}")
                if size == ZOOMED[0]:
                    found += [f"{button}: {one}" for one in await unreached(page, form)]
    assert found == [], "\n".join(found)
