"""The list of agents: groups, filter, keys, several agents at once, and the menu of one."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack

import pytest
from playwright.async_api import Locator, Page
from support.agents import Operator, until
from support.api_calls import call_api
from support.expecting import expect
from support.frames import HELLO, next_message
from support.server import Api, Enrolled

from onsembl.api.settings import Settings
from onsembl.sql.database import connect

ROWS = """() => [...document.querySelectorAll(".agents .scroll li > *")].map((row) => [row.offsetParent.offsetTop, row])
    .sort(([a], [b]) => a - b).map(([, row]) => row.dataset.agent ?? row.querySelector(".truncate").textContent)"""
TAB_STOPS = """() => document.querySelectorAll('.agents .scroll li > [tabindex="0"]').length"""


@pytest.fixture
def settings(database_url: str) -> Settings:
    """The agents are bare sockets, which answer no ping."""
    return Settings(database_url=database_url, public_url="", heartbeat=3600)


async def enrolled(center: Api, operator: Operator, names: str, *labels: str) -> list[Enrolled]:
    agents = [await center.enrol(name) for name in names.split()]
    for agent in agents if labels else []:
        await call_api(operator, "PUT", f"/v1/agents/{agent.id}/labels", {"labels": labels})
    return agents


async def connect_all(center: Api, stack: AsyncExitStack, agents: list[Enrolled], host: str) -> None:
    for agent in agents:
        socket = await stack.enter_async_context(center.agent_socket(agent))
        await socket.send(json.dumps({**HELLO, "host": host}))
        await next_message(socket, "welcome")


def row(page: Page, name: str) -> Locator:
    return page.locator(f'[data-agent="{name}"]')


async def shows(page: Page, *rows: str) -> None:
    """Wait until the list has exactly these rows, headings included."""
    try:
        await page.wait_for_function(f"(rows) => JSON.stringify(({ROWS})()) === JSON.stringify(rows)", arg=list(rows))
    except Exception as error:
        raise AssertionError(f"{await page.evaluate(ROWS)} is not {rows}") from error


async def test_the_list_is_grouped_filtered_and_moved_in_by_keys(center: Api, visit, subtests) -> None:
    """Offline agents are folded with their count; a grouping is remembered; a filter finds by name, label, state and
    `not`; the list is one stop of the Tab key; and of many agents only those near the seen part are in the document."""
    operator = Operator(center, await center.operator())
    async with AsyncExitStack() as stack:
        web = await enrolled(center, operator, "web-1 web-2", "eu", "web")
        data = await enrolled(center, operator, "data-1", "us")
        await enrolled(center, operator, "mail-1 mail-2 mail-3", "eu")
        await connect_all(center, stack, web, "box-a")
        await connect_all(center, stack, data, "box-b")
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back("admin@example.org")
        field = page.get_by_label("Filter agents")
        with subtests.test("offline"):
            await shows(page, "data-1", "web-1", "web-2", "Offline")
            await expect(page.locator('[data-group="offline"]')).to_have_text(re.compile(r"Offline\s+3"))
            await page.locator('[data-group="offline"]').click()
            await shows(page, "data-1", "web-1", "web-2", "Offline", "mail-1", "mail-2", "mail-3")
        with subtests.test("keys"):
            await page.keyboard.press("1")
            await expect(page.locator('[data-group="offline"]')).to_be_focused()
            await page.keyboard.press("ArrowLeft")
            await shows(page, "data-1", "web-1", "web-2", "Offline")
            await page.keyboard.press("Home")
            await expect(row(page, "data-1")).to_be_focused()
            await page.keyboard.press("ArrowDown")
            await expect(row(page, "web-1")).to_be_focused()
            await expect(row(page, "web-1")).to_have_attribute("aria-current", "page")
            await page.keyboard.press("j")
            await expect(row(page, "web-2")).to_have_attribute("aria-current", "page")
            assert await page.evaluate(TAB_STOPS) == 1
            await page.reload()
            await visitor.live()
            await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
            await expect(page.locator(".work")).to_be_focused()
        with subtests.test("filter"):
            for text, found in {
                "mail": ["mail-1", "mail-2", "mail-3"],
                "label:eu not offline": ["web-1", "web-2"],
                "not label:eu": ["data-1"],
                "state:online host:box-a": ["web-1", "web-2"],
                "-box-a online": ["data-1"],
            }.items():
                await field.fill(text)
                await shows(page, *found)
            await field.fill("nobody")
            await expect(page.get_by_text("No agent matches “nobody”.")).to_be_visible()
            await field.press("Escape")
            await page.keyboard.press("?")
            await expect(page.get_by_role("group", name="How to filter")).to_contain_text("state:waiting")
            await page.keyboard.press("Escape")
            await page.get_by_role("group", name="Labels").get_by_role("button", name=re.compile("^us")).click()
            await expect(field).to_have_value("label:us")
            await shows(page, "data-1")
            await field.fill("")
        with subtests.test("groups"):
            await page.get_by_label("Group agents").select_option("label")
            labelled = ["eu", "web-1", "web-2", "us", "data-1", "web", "web-1", "web-2", "Offline"]
            await shows(page, *labelled)
            await page.reload()
            await shows(page, *labelled)
            await page.get_by_label("Group agents").select_option("host")
            await shows(page, "box-a", "web-1", "web-2", "box-b", "data-1", "Offline")
        with subtests.test("many"):
            async with await connect(center.database_url, role="onsembl_api") as conn:
                await conn.execute(
                    "insert into agents (name, kind) select 'many-' || n, 'shell' from generate_series(1, 600) as n"
                )
            await page.reload()
            await page.locator('[data-group="offline"]').click()
            await expect(row(page, "many-1")).to_be_attached()
            assert await page.locator("[data-agent]").count() < 80
            await page.keyboard.press("End")
            await expect(row(page, "many-99")).to_be_focused()


async def test_several_agents_are_acted_on_together(center: Api, visit) -> None:
    """Agents selected by Ctrl, Shift and x get a command and labels, and are stopped, together; the menu of one
    renames it, says how to start another one like it, and deletes it."""
    operator = Operator(center, await center.operator())
    await enrolled(center, operator, "a b c d", "old")
    visitor = await visit(center.url)
    page = visitor.page
    await visitor.come_back("admin@example.org")
    selected = page.get_by_role("region", name="Selected agents")
    await row(page, "a").click(modifiers=["Control"])
    await row(page, "c").click(modifiers=["Shift"])
    await expect(selected.get_by_text("3 selected")).to_be_visible()
    await row(page, "b").focus()
    await page.keyboard.press("x")
    await page.keyboard.press("Shift+ArrowDown")
    await page.keyboard.press("Shift+ArrowDown")
    await expect(selected.get_by_text("4 selected")).to_be_visible()
    await page.keyboard.press("x")
    await expect(selected.get_by_text("3 selected")).to_be_visible()
    await selected.get_by_role("button", name="Command…").click()
    await page.get_by_label("Command for 3 agents").fill("make")
    await selected.get_by_role("button", name="Send to 3 agents").click()
    await visitor.noticed("Sent to 3 agents.")
    for name in "abc":
        await expect(row(page, name)).to_contain_text("1 queued")
    await selected.get_by_role("button", name="Labels…").click()
    await selected.get_by_label("Add").fill("new eu")
    await selected.get_by_label("Remove").fill("old")
    await selected.get_by_role("button", name="Save labels").click()
    await visitor.noticed("3 agents: labels saved.")
    await selected.get_by_role("button", name="Stop commands").dblclick()
    await visitor.noticed("3 agents: all commands are cancelled.")
    for name in "abc":
        await expect(row(page, name)).not_to_contain_text("queued")
    await row(page, "a").focus()
    await page.keyboard.press("Escape")
    await expect(selected).to_have_count(0)
    agents = {agent["name"]: agent for agent in (await call_api(operator, "GET", "/v1/agents"))["agents"]}
    assert {name: agents[name]["labels"] for name in "abcd"} == {
        **{name: ["new", "eu"] for name in "abc"},
        "d": ["old"],
    }
    assert [agents[name]["last_command"]["state"] for name in "abc"] == ["cancelled"] * 3

    await row(page, "d").click(button="right")
    menu = page.get_by_role("group", name="Menu of d")
    await menu.get_by_label("Name").fill("e")
    await menu.get_by_role("button", name="Rename").click()
    await visitor.noticed("d is e.")
    await expect(row(page, "e")).to_be_visible()
    await row(page, "e").focus()
    await page.keyboard.press(".")
    menu = page.get_by_role("group", name="Menu of e")
    await expect(menu.get_by_role("button").first).to_be_focused()
    await menu.get_by_role("button", name="Start another agent").click()
    dialog = page.get_by_role("dialog", name="Start another agent like e")
    await expect(dialog).to_contain_text("onsembl agent run --name e-2")
    await page.keyboard.press("Escape")
    await row(page, "e").click(button="right")
    await menu.get_by_role("button", name="Delete the agent").click()
    await expect(menu).to_contain_text("The audit log and what its turns have cost are kept.")
    await menu.get_by_role("button", name="Press again: delete the agent").click()
    await visitor.noticed("e is deleted.")
    await expect(row(page, "e")).to_have_count(0)

    async def deleted() -> bool:
        return "e" not in [agent["name"] for agent in (await call_api(operator, "GET", "/v1/agents"))["agents"]]

    await until(deleted, "the agent is gone")
