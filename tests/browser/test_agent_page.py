"""The page of one agent, and the rows in which it and its commands stand."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.async_api import ViewportSize
from support.agents import FINAL, Operator, agent_running
from support.asking_agents import AskingAgent
from support.expecting import expect
from support.frames import HELLO, next_message
from support.pictures import DESK, PHONE, pictures
from support.server import Api

LAPTOP: ViewportSize = {"width": 1024, "height": 768}
ROWS = re.compile(r"×(3\d|4\d)$")
"""The size of a terminal with at least 30 rows."""
BARS = """() => [...document.querySelectorAll(".work .bar, .work .control, .work .status, .work .views")]
    .filter((part) => part.offsetHeight > 0).map((part) => part.getBoundingClientRect().bottom)"""
BUILD = "git init -q -b topic/one .; echo compiling; read answer; printf 'warning: x\\n42 passed\\n'"


def step(number: int, kind: str, title: str, **fields: object) -> dict[str, object]:
    now = datetime.now(UTC).isoformat()
    places = {"started_at": now, "output_start": 0, "output_end": 0}
    return {"number": number, "revision": 1, "kind": kind, "title": title, "status": "completed", **places, **fields}


@pytest.mark.seconds(6)
async def test_rows_say_what_comes_of_a_command(center: Api, visit, tmp_path: Path, subtests) -> None:
    """The list and the commands have the last line of a command line, the last step of a turn in words, and the cost; a
    success is an icon. One bar has the agent's folder and branch, and at 1024 × 768 the terminal has 30 rows."""
    account = await center.operator()
    operator = Operator(center, account)
    enrolled = await center.enrol("fixer", "claude")
    async with agent_running(center, tmp_path) as agent, center.agent_socket(enrolled) as socket:
        await socket.send(json.dumps({**HELLO, "kind": "claude", "folder": "/srv/work/shop", "branch": "fix/cart"}))
        await next_message(socket, "welcome")
        fixer = AskingAgent(enrolled, socket, await operator.send(enrolled.id, "do it"))
        await next_message(socket, "offer")
        began = {"started_at": datetime.now(UTC).isoformat(), "output_start": 0}
        await fixer.tell(type="accepted", command_id=fixer.command["id"], **began)
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back(account.email, "/#/agents/one")
        await visitor.attached()
        one, other = page.locator('[data-agent="one"]'), page.locator('[data-agent="fixer"]')
        bar = page.locator(".work .bar")
        with subtests.test("a command line"):
            command = await operator.send(agent.id, BUILD)
            await expect(one).to_contain_text("compiling")
            await expect(visitor.command(BUILD, "running")).to_contain_text("compiling")
            await pictures(page, "agent-runs", (DESK, LAPTOP, PHONE))
            await page.set_viewport_size(LAPTOP)
            await page.keyboard.press("t")
            await expect(page.locator('[data-control="mine"]')).to_be_visible()
            await expect(page.locator(".size")).to_have_text(ROWS)
            await pictures(page, "agent-typing", (DESK, PHONE, LAPTOP))
            await page.keyboard.press("Enter")
            await page.set_viewport_size(DESK)
            assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
            await expect(one).to_contain_text(re.compile(r"succeeded:\s*42 passed"))
            ended = visitor.command(BUILD, "succeeded")
            await expect(ended).to_contain_text("42 passed")
            await expect(ended.get_by_text("succeeded", exact=True)).to_have_css("width", "1px")
        with subtests.test("one bar"):
            await expect(bar).to_contain_text(f"{tmp_path.parent.name}/{tmp_path.name}")
            await expect(bar).to_contain_text("topic/one")
            assert "Linux" not in await bar.inner_text()
            box = await bar.bounding_box()
            assert box is not None
            assert max(await page.evaluate(BARS)) <= box["y"] + box["height"]
        with subtests.test("a turn"):
            id = fixer.command["id"]
            tool = step(1, "tool", "npm test", name="Bash", tool_kind="execute", status="in_progress")
            await fixer.tell(type="steps", command_id=id, through=1, steps=[tool])
            await expect(other).to_contain_text("Bash npm test")
            said = [
                step(2, "message", "Fixed the rounding of the cart", text="x"),
                step(3, "result", "", name="completed"),
            ]
            await fixer.tell(type="steps", command_id=id, through=2, steps=said)
            await expect(other).to_contain_text("Fixed the rounding of the cart")
            await fixer.end(usage={"input_tokens": 9, "output_tokens": 1, "cost_usd": 0.42})
            await expect(other).to_contain_text(re.compile(r"succeeded:\s*Fixed the rounding of the cart"))
            await expect(other.locator(".cost")).to_have_text("$0.42")
            await page.evaluate("location.hash = '#/agents/fixer'")
            row = visitor.command("do it", "succeeded")
            await expect(row).to_contain_text("Fixed the rounding of the cart")
            await expect(row.locator("[data-cost]")).to_have_text("$0.42")
            await expect(bar).to_contain_text("work/shop")
            await expect(bar).to_contain_text("fix/cart")
            await pictures(page, "agent-turn", (DESK, LAPTOP, PHONE))
            await page.set_viewport_size(DESK)
            await page.get_by_role("button", name="Turn", exact=True).click()
            await expect(page.get_by_role("region", name="Turn")).to_be_visible()
            await pictures(page, "agent-steps", (LAPTOP,))
            await page.set_viewport_size(DESK)
        with subtests.test("kinds"):
            for path, place in {"history": "li[data-command]", "recordings": "td", "usage": "td.name"}.items():
                await page.evaluate(f"location.hash = '#/{path}{'?by=agent' if path == 'usage' else ''}'")
                if path == "usage":
                    await page.get_by_label("Group by").select_option("agent")
                await expect(page.locator(f'{place} [data-kind="claude"]').first).to_be_visible()
                await pictures(page, f"kinds-{path}", (DESK,))
                await page.set_viewport_size(DESK)
