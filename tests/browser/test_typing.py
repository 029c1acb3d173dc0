"""Typing into a real program from the page, and control of the terminal."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import UUID

from playwright.async_api import expect
from support.agents import CuttableLink, agent_running
from support.server import Api

from onsembl.protocol.control import Control
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role

PASTE = "".join(f"{number:06} " for number in range(60_000))
TAKES_A_PASTE = f"stty raw -echo; echo raw-$((1)); head -c {len(PASTE)} | md5sum; stty sane"
ASKS = f"read -p 'name? ' name; echo hello-$name; {TAKES_A_PASTE}; cat"
PASTES = """text => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", text);
    const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
    document.querySelector(".host textarea").dispatchEvent(event);
}"""


async def test_a_person_types_into_the_running_program(center: Api, visit, tmp_path: Path) -> None:
    """Keys, a paste longer than the limit for unread input, and an interrupt go to the program, not to the page;
    without control, keys are the page's shortcuts."""
    async with agent_running(center, tmp_path):
        visitor = await visit(center.url)
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        page = visitor.page
        await visitor.attached()
        await visitor.send(ASKS)
        await visitor.sees("name?")
        await page.get_by_role("button", name="Take control").click()
        await expect(page.locator('[data-control="mine"]')).to_be_visible()
        await page.locator(".host").click()
        await page.keyboard.type("jack?c/kx")  # each of these keys is a shortcut of the page
        await page.keyboard.press("Enter")
        await visitor.sees("hello-jack?c/kx")
        await expect(page.locator("dialog[open]")).to_have_count(0)
        await visitor.sees("raw-1")
        await page.evaluate(PASTES, PASTE)
        await visitor.sees(hashlib.md5(PASTE.encode()).hexdigest())
        await page.get_by_role("button", name="Interrupt").click()
        await expect(visitor.command(ASKS, "failed")).to_be_visible()
        await page.get_by_role("button", name="Release control").click()
        await expect(page.locator('[data-control="free"]')).to_be_visible()
        await page.locator(".host").click()
        await page.keyboard.press("?")
        await expect(page.locator("dialog[open]")).to_be_visible()


async def test_two_people_at_one_terminal(center: Api, visit, tmp_path: Path) -> None:
    """The second person asks for control and gets it, then the first takes it back; every window shows who has it."""
    async with agent_running(center, tmp_path) as agent:
        ada, bob, eve = [await visit(center.url) for _ in range(3)]
        admin, operator = await center.operator(Role.ADMIN), await center.operator(Role.OPERATOR)
        await ada.come_back(admin.email)
        await bob.come_back(operator.email)
        await eve.come_back((await center.operator(Role.VIEWER)).email)
        for visitor in (ada, bob, eve):
            await visitor.attached()
        await ada.send("cat")
        await ada.page.get_by_role("button", name="Take control").click()
        await expect(bob.page.get_by_text(f"{admin.email} controls this terminal")).to_be_visible()
        await bob.page.get_by_role("button", name="Ask for control").click()
        await ada.page.get_by_role("button", name=f"Give control to {operator.email}").click()
        await expect(bob.page.locator('[data-control="mine"]')).to_be_visible()
        await bob.page.locator(".host").click()
        await bob.page.keyboard.type("from bob\n")
        await ada.sees("from bob")
        await ada.page.get_by_role("button", name="Take over").click()
        await ada.page.get_by_role("button", name="Press again").click()
        await expect(bob.page.get_by_text(f"{admin.email} controls this terminal")).to_be_visible()
        await expect(eve.page.get_by_text(f"{admin.email} controls this terminal")).to_be_visible()
        await expect(eve.page.locator("[data-control]").get_by_role("button")).to_have_count(0)
        await ada.page.get_by_role("button", name="Interrupt").click()
        await agent.stop()
        bar = bob.page.locator("[data-control]")
        await expect(bar.get_by_role("button")).to_have_count(0)
        await expect(bar).to_have_text(f"{admin.email} controls this terminal")


async def test_a_page_reconnects_to_a_server_that_has_forgotten_control(center: Api, visit, tmp_path: Path) -> None:
    """After a restart of the server the page has no control any more, and can take it again."""
    async with agent_running(center, tmp_path) as agent, CuttableLink(center.url) as link:
        visitor = await visit(link.url)
        visitor.console.expect("ERR_|WebSocket|Failed to")
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        page = visitor.page
        await visitor.attached()
        await visitor.send("cat")
        await page.get_by_role("button", name="Take control").click()
        await expect(page.locator('[data-control="mine"]')).to_be_visible()
        link.sever()
        await expect(page.locator('.host[data-link="attached"]')).to_have_count(0)
        center.services.hub.terminals[AgentId(UUID(agent.id))].control = Control()
        link.mend()
        await visitor.attached()
        await page.get_by_role("button", name="Take control").click()
        await expect(page.locator('[data-control="mine"]')).to_be_visible()
        await page.locator(".host").click()
        await page.keyboard.type("typed again\n")
        await visitor.sees("typed again")
        await page.get_by_role("button", name="Interrupt").click()
