"""The queue on the page: order and edits of queued commands, their cancellation and their expected start."""

from __future__ import annotations

import re

from support.agents import Operator, agent_running
from support.api_calls import call_api
from support.expecting import expect
from support.server import Api

from onsembl.protocol.states import Role
from onsembl.sql.database import connect


async def test_queued_commands_are_edited_and_moved(center: Api, visit) -> None:
    """Another window sees each change of the queue at once, and a viewer's window has no buttons to change it."""
    await center.enrol("away")
    admin, viewer = await visit(center.url), await visit(center.url)
    await admin.come_back((await center.operator()).email)
    await viewer.come_back((await center.operator(Role.VIEWER)).email)
    for text in ("first", "second", "thrid"):
        await admin.send(text)
    waiting = "li[data-command][data-state=queued]"
    for visitor in (admin, viewer):
        await expect(visitor.page.locator(waiting)).to_contain_text(["first", "second", "thrid"])
    row = admin.page.locator(waiting).filter(has_text="thrid")
    await row.locator("[data-row]").click()
    await row.get_by_role("button", name="Move to the front").click()
    await expect(viewer.page.locator(waiting)).to_contain_text(["thrid", "first", "second"])
    await expect(viewer.page.locator(waiting).first).to_contain_text("next")
    await row.get_by_role("button", name="Move down in the queue").click()
    await expect(viewer.page.locator(waiting)).to_contain_text(["first", "thrid", "second"])
    await row.get_by_role("button", name="Edit").click()
    await admin.page.get_by_label("Command", exact=True).fill("third")
    await admin.page.get_by_role("button", name="Save").click()
    await expect(viewer.page.locator(waiting)).to_contain_text(["first", "third", "second"])
    await viewer.page.locator(waiting).first.locator("[data-row]").click()
    await expect(viewer.page.get_by_role("button", name="Edit")).to_have_count(0)
    last = admin.page.locator(waiting).filter(has_text="second")
    await last.locator("[data-row]").click()
    await last.get_by_role("button", name="Edit").click()
    await last.get_by_label("Priority (1 runs first)").select_option("2")
    await last.get_by_role("button", name="Save").click()
    await expect(viewer.page.locator(waiting)).to_contain_text(["second", "first", "third"])
    await expect(viewer.page.locator(waiting).first).to_contain_text("P2")


async def test_a_cancellation_has_a_reason(center: Api, visit) -> None:
    """A cancellation of one command, a group or all commands of an agent has a reason, which each command shows."""
    away = await center.enrol("away")
    visitor = await visit(center.url)
    account = await center.operator(Role.OPERATOR)
    await visitor.come_back(account.email)
    page = visitor.page
    operator = Operator(center, account)
    for text in ("one", "two", "three"):
        await visitor.send(text)
    row = visitor.command("one", "queued")
    await row.locator("[data-row]").click()
    await page.get_by_role("button", name="Give a reason and cancel").click()
    await page.get_by_label("Reason", exact=True).fill("not needed")
    await page.get_by_role("button", name="Cancel the command").click()
    await visitor.command("one", "cancelled").locator("[data-row]").click()
    await expect(page.get_by_text("not needed")).to_be_visible()
    await page.get_by_role("button", name="More for away").click()
    await page.get_by_role("button", name="Cancel all commands").click()
    await page.get_by_label("Reason", exact=True).fill("wrong branch")
    await page.get_by_role("button", name="Press again: cancel all commands").click()
    await expect(page.locator("li[data-state=cancelled]")).to_have_count(3)
    group = await call_api(operator, "POST", "/v1/groups", {"text": "git pull", "target": {"all": True}}, 201)
    await page.goto(f"{center.url}/#/history?group={group['id']}")
    strip = page.get_by_role("region", name="Command group")
    await strip.get_by_role("button", name="Cancel the group").click()
    await strip.get_by_label("Reason", exact=True).fill("too early")
    await strip.get_by_role("button", name="Press again to cancel the group").click()
    await expect(strip.get_by_text("1 of 1 command ended")).to_be_visible()
    found = (await call_api(operator, "GET", f"/v1/commands?agent_id={away.id}"))["commands"]
    assert [command["cancel_reason"] for command in found] == [
        "too early",
        "wrong branch",
        "wrong branch",
        "not needed",
    ]


async def test_the_expected_start_is_updated_as_time_passes(center: Api, visit, tmp_path) -> None:
    """The page reads the expected start again without a change of the queue."""
    async with agent_running(center, tmp_path, "one") as agent:
        visitor = await visit(center.url)
        account = await center.operator()
        operator = Operator(center, account)
        await operator.until_state(await operator.send(agent.id, "true"), "succeeded")
        async with await connect(center.database_url, autocommit=True) as conn:
            await conn.execute("update commands set started_at = ended_at - interval '1 hour'")
        await operator.until_state(await operator.send(agent.id, "sleep 1000"), "running")
        await operator.send(agent.id, "waits")
        await visitor.page.clock.install()
        await visitor.come_back(account.email)
        row = visitor.command("waits", "queued")
        await expect(row).to_contain_text(re.compile(r"next, in about (5\d m|1 h 00 m)"))
        async with await connect(center.database_url, autocommit=True) as conn:
            await conn.execute("update commands set started_at = now() - interval '30 minutes' where state = 'running'")
        await visitor.page.clock.run_for(20_000)
        await expect(row).to_contain_text(re.compile(r"next, in about (2\d m|30 m 00)"))
