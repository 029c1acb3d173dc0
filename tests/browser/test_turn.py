"""The turn of a coding agent on the page: its steps, while they come and afterwards."""

from __future__ import annotations

import re

from playwright.async_api import expect
from support.agents import FINAL, Operator, agent_running
from support.claude import put_claude_on_path
from support.server import Api

from onsembl.protocol.states import Role


async def test_the_steps_of_a_turn_are_shown(center: Api, visit, tmp_path, monkeypatch) -> None:
    """Each step opens to its text and result, and leads to its place in the recording; what was not allowed is
    marked."""
    put_claude_on_path(tmp_path, monkeypatch)
    operator = Operator(center, await center.operator())
    async with agent_running(center, tmp_path, kind="claude") as agent:
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        await page.get_by_role("button", name="Turn", exact=True).click()
        pane = page.get_by_role("region", name="Turn")
        await expect(pane.get_by_text("No prompt has been sent")).to_be_visible()
        await visitor.send("tool")
        tool = pane.locator("li.tool")
        await expect(tool).to_contain_text("Bash")
        await expect(pane.locator("li.result")).to_contain_text("232 tokens")
        await expect(pane.locator("li.message .markdown")).to_contain_text("The command printed: one")
        await tool.get_by_role("button").click()
        await expect(tool.locator("pre.result")).to_contain_text("one\ntwo")
        await expect(tool.get_by_role("link")).to_have_attribute("href", re.compile(r"#/recordings/one/.*at=\d+"))

        refused = await operator.until_state(await operator.send(agent.id, "refused", conversation="latest"), *FINAL)
        assert refused["denied"] == 1
        await expect(pane.locator("li.denied")).to_contain_text("not allowed")
        row = visitor.command("refused", "succeeded")
        await expect(row.locator(".chip")).to_have_class(re.compile("incomplete"))
        await expect(row).to_contain_text("1 not allowed")
        await pane.get_by_label("Turn").select_option(label="tool")
        await expect(pane.locator("li.result")).to_contain_text("232 tokens")
        await page.get_by_role("button", name="Terminal", exact=True).click()
        await visitor.sees("The command printed: one")


async def test_a_text_goes_into_the_running_turn(center: Api, visit, tmp_path, monkeypatch) -> None:
    """Ctrl-Enter sends a text into the turn; its row says that the turn has read it, and the turn has it as a step."""
    put_claude_on_path(tmp_path, monkeypatch)
    operator = Operator(center, await center.operator())
    async with agent_running(center, tmp_path, kind="claude") as agent:
        turn = await operator.until_state(await operator.send(agent.id, "tool TAKES"), "running")
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        await expect(page.locator("li[data-command][data-state=running]")).to_be_visible()
        box = page.locator("form.box textarea")
        await box.fill("leave the tests alone")
        await expect(page.get_by_text("A turn runs.")).to_be_visible()
        await box.press("Control+Enter")
        await expect(visitor.command("leave the tests alone", "succeeded")).to_contain_text("read by the turn, step 2")
        await page.get_by_role("button", name="Turn", exact=True).click()
        step = page.get_by_role("region", name="Turn").locator("li.input")
        await expect(step).to_contain_text("Sent into the turn")
        await expect(step).to_contain_text("leave the tests alone")
        assert (await operator.until_state(turn, *FINAL))["state"] == "succeeded"
