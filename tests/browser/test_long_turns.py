"""A turn of many steps on the page: while it goes on, and by keyboard and search."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page
from support.agents import FINAL, Operator, agent_running
from support.claude import put_claude_on_path
from support.expecting import expect
from support.long_turns import begin, end, go_on
from support.server import Api

from onsembl.protocol.states import Role
from onsembl.protocol.turn_steps import MAX_STEP_TEXT

MOST_ROWS = 120
"""How many steps are in the document at most, however many the turn has."""
TOP = """(tree) => {
    const { top: from, left } = tree.getBoundingClientRect();
    const row = document.elementFromPoint(left + 200, from + 1).closest("li");
    return [row.querySelector(".title").textContent, row.getBoundingClientRect().top - from];
}"""
"""The title of the uppermost step that is seen, and its distance from the top."""
WATCH_FRAMES = """() => {
    let last = performance.now();
    window.longest = 0;
    requestAnimationFrame(function frame(now) {
        window.longest = Math.max(window.longest, now - last);
        last = now;
        requestAnimationFrame(frame);
    });
}"""
MEASURED = """() => {
    const heap = performance.memory ? `, heap ${Math.round(performance.memory.usedJSHeapSize / 2 ** 20)} MiB` : "";
    return `longest frame ${Math.round(window.longest)} ms, ${document.querySelectorAll("*").length} elements${heap}`;
}"""


class Tree:
    """The tree of steps, as a person uses it."""

    def __init__(self, page: Page) -> None:
        self.pane = page.get_by_role("region", name="Turn")
        self.seen = self.pane.locator(".seen")
        self.field = self.pane.get_by_label("Find in the steps")

    def step(self, title: str) -> Locator:
        return self.pane.locator("li", has=self.pane.page.get_by_text(title, exact=True))

    async def has(self, steps: int) -> None:
        await expect(self.pane.get_by_text(f"{steps:,} steps" if steps >= 10_000 else f"{steps} steps")).to_be_visible()
        assert await self.pane.locator("li").count() <= MOST_ROWS

    async def click_keeps_place(self, title: str) -> None:
        """Open a step by a click: it stays under the pointer."""
        button = self.step(title).locator("button[data-row]")
        before = await button.bounding_box()
        await button.click()
        await expect(button).to_have_attribute("aria-expanded", "true")
        assert (await button.bounding_box())["y"] == pytest.approx(before["y"], abs=1)


@pytest.mark.parametrize(
    ("subagents", "calls"), [(60, 100), pytest.param(200, 9_597, marks=pytest.mark.load)], ids=["short", "10,000 steps"]
)
@pytest.mark.seconds(6)
@pytest.mark.timeout(300)
async def test_a_long_turn_is_usable(
    center: Api, visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subagents: int, calls: int
) -> None:
    """Few of the steps are in the document; the newest one is followed, and what a person reads stays in its place
    while steps appear above it; each step is found, and reached by keys."""
    put_claude_on_path(tmp_path, monkeypatch)
    transcripts = tmp_path / "transcripts"
    transcripts.mkdir()
    monkeypatch.setenv("TRANSCRIPTS", str(transcripts))
    (transcripts / "long.jsonl").write_bytes(b"".join([*begin(1, subagents), *go_on(calls, subagents), end()]))
    operator = Operator(center, await center.operator())
    async with agent_running(center, tmp_path, kind="claude") as agent:
        # The replay stops after its first result, until it gets a text.
        turn = await operator.send(agent.id, "long TAKES")
        visitor = await visit(center.url)
        page: Page = visitor.page
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        await page.get_by_role("button", name="Turn", exact=True).click()
        tree = Tree(page)
        await tree.has(2 * subagents + 1)
        await expect(tree.step(f"echo begun{subagents - 1}-0")).to_be_in_viewport()

        await tree.seen.evaluate("(tree) => tree.scrollTo(0, tree.scrollHeight / 2)")
        await expect(tree.pane.get_by_role("button", name="Newest step")).to_be_visible()
        title, top = await tree.seen.evaluate(TOP)
        assert (await operator.send(agent.id, "go on", steer=True, conversation="latest"))["state"] != "failed"
        await operator.until_state(turn, *FINAL)
        await tree.has(2 * subagents + calls + 3)
        assert await tree.seen.evaluate(TOP) == [title, pytest.approx(top, abs=2)]
        await tree.pane.get_by_role("button", name="Newest step").click()
        await expect(tree.pane.locator("li.result")).to_be_in_viewport()

        await page.keyboard.press("Control+f")
        await expect(tree.field).to_be_focused()
        await tree.field.fill(f"CALL{calls // 2}")
        await expect(tree.pane.locator("li[aria-current]")).to_be_in_viewport()
        await expect(tree.pane.locator("li[aria-current]")).to_contain_text(f"echo call{calls // 2}")
        await tree.field.press("Escape")
        await tree.field.fill("echo agent")
        await expect(tree.pane.get_by_role("status")).to_have_text(f"1 of {subagents}")
        await tree.field.press("Shift+Enter")
        await expect(tree.pane.get_by_role("status")).to_have_text(f"{subagents} of {subagents}")

        await tree.step(f"echo agent{subagents - 1}").get_by_role("button").focus()
        await page.keyboard.press("Home")
        await expect(tree.step("echo agent0").get_by_role("button")).to_be_focused()
        await page.keyboard.press("ArrowDown")
        await expect(tree.step("echo begun0-0").get_by_role("button")).to_be_focused()
        await tree.seen.evaluate("(tree) => tree.scrollTo(0, tree.scrollHeight)")
        await expect(tree.step("echo begun0-0").get_by_role("button")).to_be_focused()
        await page.keyboard.press("End")
        await page.keyboard.press("k")
        await tree.click_keeps_place("echo huge")
        await expect(tree.step("echo huge")).to_contain_text("were not stored")
        huge = await tree.step("echo huge").locator("pre.result").inner_text()
        assert len(huge) == MAX_STEP_TEXT
        await page.reload()
        await visitor.live()
        await page.evaluate(WATCH_FRAMES)
        began = time.perf_counter()
        await page.get_by_role("button", name="Turn", exact=True).click()
        await tree.has(2 * subagents + calls + 3)
        seconds = time.perf_counter() - began
        await tree.click_keeps_place("echo call0")
        print(f"all steps on the page after {seconds:.1f} s; " + await page.evaluate(MEASURED))
