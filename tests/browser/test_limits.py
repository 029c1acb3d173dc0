"""Limits on the page: set for a command and for an agent, shown when a command exceeds one."""

from __future__ import annotations

from support.agents import agent_running
from support.expecting import expect
from support.server import Api

from onsembl.protocol.states import Role


async def test_a_limited_command_is_seen_to_time_out(center: Api, visit, tmp_path) -> None:
    """The form names an invalid limit; the command shows the limit that it exceeded."""
    async with agent_running(center, tmp_path, "one"):
        visitor = await visit(center.url)
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        page = visitor.page
        await page.get_by_role("button", name="Limits: none").click()
        limits = page.get_by_role("group", name="Limits")
        await limits.get_by_label("Working time").fill("soon")
        await expect(limits.get_by_text("Working time is not a valid limit.")).to_be_visible()
        await limits.get_by_label("Working time").fill("2s")
        await limits.get_by_label("Cost in $").fill("2.50")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Limits: 2s, $2.5")).to_be_visible()
        await visitor.send("sleep 1000")
        await expect(page.get_by_role("button", name="Limits: none")).to_be_visible()
        row = page.locator("li[data-command][data-state=timed_out]")
        await expect(row).to_contain_text("Stopped: it worked for more than 2 s.")
        await row.locator("[data-row]").click()
        await expect(row.get_by_text("2s, $2.5")).to_be_visible()
        await page.get_by_role("button", name="More for one").click()
        await expect(page.get_by_role("button", name="Save labels")).to_be_visible()
        await expect(page.get_by_role("button", name="Save limits")).to_have_count(0)


async def test_an_agents_limits_and_rules_are_set_in_its_menu(center: Api, visit) -> None:
    """An admin sets an agent's limits and rules in its menu, and the forms show them when it is opened again."""
    await center.enrol("away", "claude")
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator()).email)
    page = visitor.page
    await page.get_by_role("button", name="More for away").click()
    await page.get_by_role("textbox", name="Time without output").fill("10m")
    await page.get_by_role("button", name="Save limits").click()
    await visitor.noticed("Limits of away: 10m without output.")
    await page.get_by_role("button", name="More for away").click()
    await expect(page.get_by_role("textbox", name="Time without output")).to_have_value("10m")
    await page.get_by_label("Allow without a question").fill("Bash(npm test*)\n\n edit ")
    await page.get_by_label("Deny, whatever is allowed").fill("Bash(")
    visitor.console.expect("422")
    await page.get_by_role("button", name="Save rules").click()
    await visitor.noticed("deny")
    await page.get_by_label("Deny, whatever is allowed").fill("Bash(git push*)")
    await page.get_by_role("button", name="Save rules").click()
    await visitor.noticed("away has 3 rules.")
    await page.get_by_role("button", name="More for away").click()
    await expect(page.get_by_label("Allow without a question")).to_have_value("Bash(npm test*)\nedit")
    await expect(page.get_by_label("Deny, whatever is allowed")).to_have_value("Bash(git push*)")
