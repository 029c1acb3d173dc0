"""Every control of every page is reached: zoomed to 200 % and 400 %, and with the keyboard alone."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page, ViewportSize, expect
from support.agents import Operator
from support.api_calls import call_api
from support.asking_agents import running
from support.pictures import picture
from support.reach import lost, unreached
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
    "reports": "No agent has written a report yet",
    "usage": "No turn ended",
    "statistics": "Agents connected",
    "audit": "operator",
    "access": "admin@",
    "approve": "a-host",
    "alerts": "used twice",
    "wall": "one",
    "stream": "No output yet",
}
"""The pages, with what stands on each when it has read its rows."""


@pytest.fixture
def settings(database_url: str) -> Settings:
    """The agents are bare sockets, which take no offer of a worker and answer no ping."""
    return Settings(database_url=database_url, public_url="", worker=None, heartbeat=3600)


@asynccontextmanager
async def busy(center: Api, operator: Operator) -> AsyncGenerator[None]:
    """A fleet with something on each page."""
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
        yield


async def opened(page: Page, url: str, name: str) -> None:
    await page.goto(f"{url}/#/{name}")
    shown = page.locator(f'[data-page="{name}"]')
    await expect(shown).to_contain_text(re.compile(SHOWN[name]))


@pytest.mark.seconds(8)
async def test_nothing_is_lost_when_zoomed(center: Api, visit) -> None:
    """At 200 % and at 400 % each control of each page can be scrolled into the window and is not covered. Nothing but
    tables and terminals is scrolled sideways."""
    account = await center.operator()
    found: list[str] = []
    async with busy(center, Operator(center, account)):
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back(account.email)
        for size in ZOOMED:
            width = size["width"]
            await page.set_viewport_size(size)
            for name in SHOWN:
                await opened(page, center.url, name)
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
    async with busy(center, Operator(center, account)):
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back(account.email)
        for name in SHOWN:
            await opened(page, center.url, name)
            left += [f"{name}: {one}" for one in await unreached(page)]
        await page.goto(f"{center.url}/#/agents/one")
        await visitor.attached()
        left += [f"agent: {one}" for one in await unreached(page)]
    assert left == [], "\n".join(left)
