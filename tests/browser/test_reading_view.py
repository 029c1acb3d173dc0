"""A phone: the terminal's text wrapped for reading, gestures, and the keys that its keyboard lacks."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

from playwright.async_api import CDPSession, Page
from support.agents import agent_running
from support.expecting import expect
from support.pictures import DESK, PHONE
from support.server import Api

from onsembl.protocol.states import Role

WIDE = "printf 'begin-%0150d-end\\n' 7; echo; cat -v"
SCROLLS_SIDEWAYS = """() => [...document.querySelectorAll(".reading, .reading *, html")]
    .some((element) => element.scrollWidth > element.clientWidth + 1)"""


async def move_fingers(page: Page, session: CDPSession, *ways: tuple[tuple[int, int], tuple[int, int]]) -> None:
    """Put a finger at the begin of each way, in pixels, move all of them to their ends, and lift them: by the times of
    the events within 0.1 s, however long this machine takes."""
    times = count(time.time() - 0.1, 0.05)

    async def touch(kind: str, points: list[tuple[int, int]]) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        event = {"type": kind, "touchPoints": touches, "timestamp": next(times)}
        await session.send("Input.dispatchTouchEvent", event)

    await touch("touchStart", [way[0] for way in ways])
    await touch("touchMove", [way[1] for way in ways])
    await touch("touchEnd", [])


async def test_a_phone_reads_types_and_swipes(center: Api, visit, tmp_path: Path) -> None:
    """Long lines are wrapped until a pinch shows the true screen; keys go to the program, Ctrl held for one of them; a
    swipe shows the neighbouring agent."""
    async with agent_running(center, tmp_path):
        await center.enrol("zulu")
        visitor = await visit(center.url, PHONE, has_touch=True, is_mobile=True)
        page = visitor.page
        session = await page.context.new_cdp_session(page)
        await visitor.come_back((await center.operator(Role.OPERATOR)).email, "/#/agents/one")
        await visitor.attached()
        await visitor.send(WIDE)
        reading = page.get_by_role("region", name="Text of one")
        await expect(reading).to_contain_text(f"begin-{7:0150d}-end")
        assert not await page.evaluate(SCROLLS_SIDEWAYS)
        await move_fingers(page, session, ((180, 400), (90, 300)), ((200, 420), (300, 520)))
        await expect(reading).to_have_count(0)
        await move_fingers(page, session, ((90, 300), (180, 400)), ((300, 520), (200, 420)))
        await expect(reading).to_be_visible()

        await page.get_by_role("button", name="Type here").tap()
        await expect(reading).to_have_count(0)
        await page.keyboard.type("x")
        await visitor.sees("\nx")
        keys = page.get_by_role("group", name="Keys")
        for label in ("⇧ Tab", "y", "2", "Enter"):
            await keys.get_by_role("button", name=label, exact=True).tap()
        await visitor.sees("x^[[Zy2")
        held = keys.get_by_role("button", name="Ctrl", exact=True)
        await held.tap()
        await expect(held).to_have_attribute("aria-pressed", "true")
        await page.keyboard.type("d")
        await expect(held).to_have_attribute("aria-pressed", "false")
        await page.get_by_role("button", name="Commands").tap()
        await expect(visitor.command(WIDE, "succeeded")).to_be_visible()

        await page.get_by_role("button", name="Terminal", exact=True).tap()
        await expect(reading).to_be_visible()
        await page.set_viewport_size(DESK)
        await expect(reading).to_have_count(0)
        await page.set_viewport_size(PHONE)
        await expect(reading).to_be_visible()
        await move_fingers(page, session, ((300, 300), (120, 310)))
        await expect(page).to_have_url(f"{center.url}/#/agents/zulu")
        await move_fingers(page, session, ((120, 300), (300, 310)))
        await expect(page).to_have_url(f"{center.url}/#/agents/one")
