"""An agent at a usage limit of its vendor, as operators see it and let it go on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from support.expecting import expect
from support.frames import HELLO, next_message
from support.pictures import DESK, pictures
from support.server import Api


async def test_a_limited_agent_is_shown_and_goes_on(center: Api, visit) -> None:
    """The list says for how long, the agent's page has the windows. Its queue is sent to another agent, and then it
    goes on by a click."""
    agent, other = await center.enrol("one"), await center.enrol("two")
    visitor = await visit(center.url)
    page = visitor.page
    async with center.agent_socket(agent) as socket, center.agent_socket(other) as second:
        for each in (socket, second):
            await each.send(json.dumps({**HELLO, "kind": "claude"}))
            await next_message(each, "welcome")
        await visitor.come_back((await center.operator()).email)
        await visitor.attached()
        await visitor.send("make")
        offer = await next_message(socket, "offer")
        now = datetime.now(UTC)
        report = {"command_id": offer["command_id"], "output_start": 0, "started_at": now.isoformat()}
        await socket.send(json.dumps({"type": "accepted", **report}))
        resets_at = (now + timedelta(hours=2)).isoformat()
        windows = [{"name": "five_hour", "status": "rejected", "used": 1.0, "resets_at": resets_at}]
        turn = {"windows": windows, "limit": {"resets_at": resets_at, "untouched": True}}
        end = {"command_id": offer["command_id"], "outcome": "failed", "ended_at": now.isoformat(), "turn": turn}
        await socket.send(json.dumps({"type": "ended", **end}))
        entry = page.locator('[data-agent="one"]')
        await expect(entry.get_by_title("limited until")).to_contain_text("limited for 2 h")
        banner = page.get_by_role("status").filter(has_text="has reached a usage limit of its vendor")
        await expect(banner).to_contain_text("five hour 100 %, resets")
        await page.goto(f"{center.url}/#/inbox")
        await expect(page.locator("[data-request]")).to_contain_text("one")
        await pictures(page, "request-limit")
        await page.set_viewport_size(DESK)
        await page.goto(f"{center.url}/#/agents/one")
        await banner.get_by_label("Agent for the queue").select_option("two")
        await banner.get_by_role("button", name="Send", exact=True).click()
        assert (await next_message(second, "offer"))["text"] == "make"
        await banner.get_by_role("button", name="Go on now").click()
        await expect(entry.get_by_title("limited until")).to_be_hidden()
        await expect(banner).to_be_hidden()
