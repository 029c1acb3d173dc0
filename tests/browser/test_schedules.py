"""Schedules on the page: created, run, changed, paused, deleted."""

from __future__ import annotations

from support.agents import agent_running
from support.expecting import expect
from support.server import Api

from onsembl.protocol.states import Role
from onsembl.sql.database import connect
from onsembl.tasks.schedules import fire_due


async def test_a_schedule_is_created_runs_and_is_paused(center: Api, visit, tmp_path) -> None:
    """A viewer's window shows each change of a schedule at once, and has no buttons to change it."""
    async with agent_running(center, tmp_path, "one"):
        visitor, viewer = await visit(center.url), await visit(center.url)
        account = await center.operator(Role.OPERATOR)
        ask = {"template": "{{what}}", "variables": [{"name": "what", "type": "long_text", "required": True}]}
        await center.http.put("/v1/presets/Ask", json=ask, headers=account.headers)
        await visitor.come_back(account.email, path="/#/schedules")
        await viewer.come_back((await center.operator(Role.VIEWER)).email, path="/#/schedules")
        page = visitor.page
        await page.get_by_role("button", name="New schedule").click()
        await page.get_by_label("Name").fill("nightly")
        await page.get_by_label("Cron expression").fill("0 6 *")
        await expect(page.get_by_text("is not five fields")).to_be_visible()
        await page.get_by_label("Rule").select_option("on working days at 6:00")
        await expect(page.get_by_text("Next runs:")).to_be_visible()
        await page.get_by_role("textbox", name="Text").fill("exit 3")
        await page.get_by_role("button", name="Save").click()
        row = page.locator('[data-schedule="nightly"]')
        watched = viewer.page.locator('[data-schedule="nightly"]')
        for seen in (row, watched):
            await expect(seen).to_contain_text("on working days at 6:00")
            await expect(seen).to_contain_text("not yet")
        await expect(viewer.page.get_by_role("button", name="Run now: nightly")).to_have_count(0)
        async with await connect(center.database_url) as conn:
            await conn.execute("update schedules set next_at = now()")
        await fire_due(center.services.pool)
        for seen in (row, watched):
            await expect(seen).to_contain_text("failed")
        await page.get_by_role("button", name="Edit nightly").click()
        await expect(page.get_by_label("Preset").locator("option", has_text="Investigate")).to_have_count(0)
        await page.get_by_label("Preset").select_option("Ask")
        await expect(page.get_by_text("Missing or invalid: what.")).to_be_visible()
        await page.get_by_label("what (required)").fill("Why did the night fail?")
        await expect(page.get_by_role("region", name="Preview")).to_contain_text("Why did the night fail?")
        await page.get_by_label("Target").select_option("all agents")
        await page.get_by_role("button", name="Save").click()
        await expect(row).to_contain_text("all 1 agent")
        await row.get_by_role("button", name="nightly", exact=True).click()
        await expect(page.get_by_text("Preset Ask")).to_be_visible()
        await expect(page.get_by_role("list", name="Runs of nightly").get_by_role("listitem")).to_have_count(1)
        await row.get_by_role("button", name="Run now: nightly").click()
        await expect(page.get_by_role("list", name="Runs of nightly").get_by_role("listitem")).to_have_count(2)
        await expect(row.get_by_role("link", name="Show")).to_be_visible()
        await row.get_by_role("button", name="Pause nightly").click()
        for seen in (row, watched):
            await expect(seen).to_contain_text("paused")
        await row.get_by_role("button", name="Delete nightly").click()
        await row.get_by_role("button", name="Press again to delete nightly").click()
        await expect(watched).to_have_count(0)
