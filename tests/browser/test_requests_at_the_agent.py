"""Requests where their agent is looked at: over its terminal and its turn, with the steps before them."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
from playwright.async_api import ViewportSize
from support.agents import Operator, agent_running, until
from support.api_calls import call_api
from support.asking_agents import running
from support.command_line import CommandLine
from support.expecting import expect
from support.frames import next_message
from support.missing_guards import without
from support.server import Api

from onsembl.protocol.states import Role

SOON = """
from onsembl.agent.drivers import idle_watch, shell
idle_watch.SILENT_SECONDS, idle_watch.BETWEEN_SECONDS, shell.LOOK_SECONDS = 0.2, 0.0, 0.05
"""
"""For the agent: a silence counts after a moment."""
READS = "read -p 'Overwrite? ' reply; echo it-is-$reply; exec sleep 1000"
GUESS = "The program is silent and reads its terminal."
DESK: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
CUT_OFF = """() => [...document.querySelectorAll("[data-request] pre")]
    .filter((pre) => pre.scrollHeight > pre.clientHeight + 1).map((pre) => pre.textContent)"""


@pytest.mark.seconds(5)
async def test_a_silent_program_waits_until_somebody_types(center: Api, visit, tmp_path) -> None:
    """It reads its terminal: the agent waits, over its terminal and in the inbox, on a phone too, and on the command
    line, marked as a guess. Typing is the answer; the program then sleeps, and nothing waits."""
    account = await center.operator(Role.OPERATOR)
    run = CommandLine(center, account, tmp_path).run
    environment = {**os.environ, **without(tmp_path / "soon", SOON)}
    async with agent_running(center, tmp_path, env=environment):
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back(account.email)
        await visitor.attached()
        await visitor.send(READS)
        entry, card = page.locator('[data-agent="one"]'), page.locator("[data-request]")
        await expect(entry.and_(page.locator('[data-activity="waiting"]'))).to_contain_text(GUESS)
        await expect(card).to_contain_text("This is a guess")
        (listed,) = (await run("attention", "list"))[0].splitlines()
        assert GUESS in listed and "idle" in listed
        assert GUESS in (await run("agents", "list"))[0]

        await page.set_viewport_size(PHONE)
        await page.evaluate("location.hash = '#/inbox'")
        await expect(card).to_contain_text(GUESS)
        await expect(card.get_by_role("link", name="Open its terminal")).to_be_visible()
        await page.set_viewport_size(DESK)
        await card.get_by_role("link", name="Open its terminal").click()
        await visitor.attached()
        await page.keyboard.press("t")
        await expect(page.locator('[data-control="mine"]')).to_be_visible()
        await page.keyboard.type("yes")
        await page.keyboard.press("Enter")
        await visitor.sees("it-is-yes")
        await expect(card.get_by_role("status")).to_contain_text("Withdrawn: The program goes on.")
        await expect(entry.and_(page.locator('[data-activity="working"]'))).to_be_visible()

        async def nothing_waits() -> bool:
            return (await run("attention", "list"))[0] == ""

        await until(nothing_waits, "the list is empty")


@pytest.mark.no_worker
@pytest.mark.seconds(6)
async def test_a_request_for_admins_is_shown_to_an_operator(center: Api, visit) -> None:
    """Over the terminal and over the turn, without buttons and with who decided that; an admin answers it there. In the
    inbox it has the steps before it. The agent that waits is the first in the list."""
    account, other = await center.operator(Role.OPERATOR), await center.operator(Role.ADMIN)
    operator, admin = Operator(center, account), Operator(center, other)
    await call_api(admin, "POST", "/v1/tool-policies", {"verdict": "admin", "rule": "Bash(npm *)"}, 201)
    await center.enrol("another")
    async with running(center, operator) as agent:
        now, command = datetime.now(UTC).isoformat(), agent.command["id"]
        done = {
            "revision": 1,
            "kind": "tool",
            "name": "Bash",
            "status": "completed",
            "output_start": 0,
            "output_end": 0,
        }
        steps = [{**done, "number": number, "title": f"step {number}", "started_at": now} for number in range(1, 6)]
        await agent.tell(type="steps", command_id=command, through=5, steps=steps)
        await next_message(agent.socket, "steps_recorded")
        asked = await agent.ask(step=5)
        pages = [(await visit(center.url)) for _ in range(2)]
        for visitor, email in zip(pages, (account.email, other.email), strict=True):
            await visitor.come_back(email, "/#/agents/one")
        visitor, decider = pages
        page, card = visitor.page, visitor.page.locator(f'[data-request="{asked["request_id"]}"]')
        await expect(page.locator("[data-agent]").first).to_have_attribute("data-agent", "one")
        for view in ("Turn", "Terminal"):
            await page.get_by_role("button", name=view, exact=True).click()
            await expect(card).to_contain_text(f"Only an admin may answer: {other.email} keeps Bash(npm *) for admins.")
            await expect(card).to_contain_text("npm test")
            await expect(card.get_by_role("button", name="Allow")).to_have_count(0)
        await page.keyboard.press("w")
        before = card.get_by_role("list", name="Steps before this request").get_by_role("listitem")
        await expect(before).to_have_text([f"Bash step {number}" for number in (2, 3, 4)])
        await page.keyboard.press("y")

        await decider.page.get_by_role("button", name="Turn", exact=True).click()
        await decider.page.set_viewport_size({"width": 1024, "height": 600})
        allow = decider.page.locator("[data-ready]").get_by_role("button", name="Allow").first
        await expect(allow).to_be_in_viewport()
        assert await decider.page.evaluate(CUT_OFF) == []  # what is allowed can be read, also in a low window
        await allow.click()
        await expect(card.get_by_role("status")).to_contain_text(f"Allowed by {other.email}.")
