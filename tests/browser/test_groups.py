"""Groups on the page: one command for several agents."""

from __future__ import annotations

from support.agents import agent_running
from support.expecting import expect
from support.server import Api

from onsembl.protocol.states import Role


async def test_a_command_goes_to_labelled_agents_and_is_followed_as_one(center: Api, visit, tmp_path) -> None:
    """Agents get labels in their menu; a command for a label is shown and cancelled as a group."""
    await center.enrol("away")
    async with agent_running(center, tmp_path, "one"):
        visitor = await visit(center.url)
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        page = visitor.page
        await page.locator('[data-group="offline"]').click()
        for name in ("one", "away"):
            await page.locator(f'[data-agent="{name}"]').click()
            await page.get_by_role("button", name=f"More for {name}").click()
            await page.get_by_label("Labels, to send a command to several agents").fill("eu backend")
            await page.get_by_role("button", name="Save labels").click()
            await visitor.noticed(f"Labels of {name}: eu, backend.")
        await page.get_by_title("Target").click()
        await page.get_by_role("checkbox", name="backend").check()
        await expect(page.get_by_role("button", name="2 agents labelled backend")).to_be_visible()
        await page.get_by_label("Command for 2 agents labelled backend").fill("sleep 1000")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="This agent")).to_be_visible()
        await page.get_by_role("link", name="Show").click()
        group = page.get_by_role("region", name="Command group")
        await expect(group.get_by_text("0 of 2 commands ended")).to_be_visible()
        rows = page.get_by_role("list", name="Commands").get_by_role("listitem")
        await expect(rows.filter(has_text="one").locator('[data-state="running"]').first).to_be_visible()
        await group.get_by_role("button", name="Cancel the group").click()
        await group.get_by_role("button", name="Press again to cancel the group").click()
        await expect(group.get_by_text("2 of 2 commands ended: 2 cancelled")).to_be_visible()
        await expect(rows).to_have_count(2)
