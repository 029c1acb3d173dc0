"""An agent that takes no command, for example because its disk is full, as operators see it."""

from __future__ import annotations

import json

from support.expecting import expect
from support.frames import HELLO_TEXT, next_message
from support.server import Api

FULL = "The agent cannot write its journal: [Errno 28] No space left on device"


async def test_an_agents_problem_is_shown_while_it_lasts(center: Api, visit) -> None:
    """The list has it with its time, the agent's page names it, and the next command in its queue says why it waits;
    nothing of that is left when it is over."""
    agent = await center.enrol("one")
    visitor = await visit(center.url)
    page = visitor.page
    async with center.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        await visitor.come_back((await center.operator()).email)
        await visitor.attached()
        await socket.send(json.dumps({"type": "problem", "problem": FULL, "number": 1}))
        entry = page.locator('[data-agent="one"]')
        await expect(entry.get_by_text("takes no command")).to_be_visible()
        await expect(entry.get_by_title(FULL)).to_be_visible()
        banner = page.get_by_role("status").filter(has_text=f"this agent takes no command: {FULL}.")
        await expect(banner).to_be_visible()
        await visitor.send("make")
        row = visitor.command("make", "queued")
        await expect(row.get_by_text(f"waits: {FULL}")).to_be_visible()
        await socket.send(json.dumps({"type": "problem", "problem": None, "number": 2}))
        await expect(banner).to_be_hidden()
        await expect(entry.get_by_text("takes no command")).to_be_hidden()
        await expect(visitor.command("make", "dispatched")).not_to_contain_text("waits:")
    await page.goto(f"{center.url}/#/alerts")
    told = page.get_by_role("main").get_by_role("listitem")  # the bar above the page tells of it, too
    await expect(told.get_by_text(f"one takes no command: {FULL}")).to_be_visible()
