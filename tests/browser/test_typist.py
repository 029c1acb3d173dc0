"""Typing into a real program from the page, and control of the terminal."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import UUID

from playwright.async_api import ViewportSize
from support.agents import CuttableLink, agent_running
from support.expecting import expect
from support.server import Api

from onsembl.protocol.control import Control
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role

PASTE = "".join(f"{number:06} " for number in range(60_000))
TAKES_A_PASTE = f"stty raw -echo; echo raw-$((1)); head -c {len(PASTE)} | md5sum; stty sane"
ASKS = f"read -p 'name? ' name; echo hello-$name; {TAKES_A_PASTE}; cat"
ASKS_ITS_TERMINAL = (
    r"stty raw -echo; read -rn 1; printf '\033[H\033[2J\033[6n\033[cshown-%d\r\n' 1;"
    r" IFS= read -rd x answers; stty sane; echo \"answers ${answers//$'\033'/ESC}.\""
)
PASTES = """text => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", text);
    const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
    document.querySelector(".host textarea").dispatchEvent(event);
}"""

DESK: ViewportSize = {"width": 1440, "height": 900}
SEES_THE_CURSOR = """() => {
    const host = document.querySelector(".host").getBoundingClientRect();
    const cursor = document.querySelector(".xterm-cursor")?.getBoundingClientRect();
    return cursor !== undefined && cursor.top >= host.top - 2 && cursor.bottom <= host.bottom + 2;
}"""
PLACES = """() => [...document.querySelectorAll("header > *, .tabs, .box, .host")].map((element) => {
    const { left, top, width, height } = element.getBoundingClientRect();
    return [left, top, width, element.matches(".host") ? 0 : height];
})"""


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
        await expect(page.get_by_role("button", name="Type here")).to_be_visible()
        await page.keyboard.press("Escape")  # leaves the command box
        await page.keyboard.press("t")
        await expect(page.locator('[data-control="mine"]')).to_contain_text("Ctrl Shift Esc stops typing")
        await page.keyboard.type("jack?c/kx")  # each of these keys is a shortcut of the page
        await page.keyboard.press("Enter")
        await visitor.sees("hello-jack?c/kx")
        await expect(page.locator("dialog[open]")).to_have_count(0)
        await visitor.sees("raw-1")
        await page.evaluate(PASTES, PASTE)
        await visitor.sees(hashlib.md5(PASTE.encode()).hexdigest())
        await page.get_by_role("button", name="Interrupt").click()
        await expect(visitor.command(ASKS, "failed")).to_be_visible()
        await page.locator(".host").click()
        await page.keyboard.press("Control+Shift+Escape")
        await expect(page.locator('[data-control="free"]')).to_be_attached()
        await expect(page.get_by_role("button", name="Type here")).to_have_count(0)  # nothing runs
        await page.keyboard.press("?")
        await expect(page.locator("dialog[open]")).to_be_visible()


async def test_two_people_at_one_terminal(center: Api, visit, tmp_path: Path) -> None:
    """A program's query to its terminal is answered once, whoever watches. The second person asks for control and gets
    it, then the first takes it back; every window shows who has it."""
    async with agent_running(center, tmp_path) as agent:
        ada, bob, eve = [await visit(center.url) for _ in range(3)]
        admin, operator = await center.operator(Role.ADMIN), await center.operator(Role.OPERATOR)
        await ada.come_back(admin.email)
        await bob.come_back(operator.email)
        await eve.come_back((await center.operator(Role.VIEWER)).email)
        for visitor in (ada, bob, eve):
            await visitor.attached()
        await ada.send(f"{ASKS_ITS_TERMINAL}; cat")
        await ada.page.get_by_role("button", name="Type here").click()
        await expect(bob.page.get_by_text(f"{admin.email} controls this terminal")).to_be_visible()
        await expect(ada.page.locator('[data-control="mine"]')).to_be_visible()
        await ada.page.locator(".host").click()
        await ada.page.keyboard.press("q")
        for visitor in (ada, bob, eve):
            await visitor.sees("shown-1")
        await ada.page.keyboard.press("x")
        await ada.sees("answers ESC[1;1RESC[?1;2c.")
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
        await page.get_by_role("button", name="Type here").click()
        await expect(page.locator('[data-control="mine"]')).to_be_visible()
        await page.set_viewport_size({"width": 390, "height": 844})
        places = await page.evaluate(PLACES)
        link.sever()
        await expect(page.locator('[data-mark="reconnecting"]')).to_be_visible()
        await expect(page.locator('.host[data-link="attached"]')).to_have_count(0)
        assert await page.evaluate(PLACES) == places
        await page.set_viewport_size(DESK)
        center.services.hub.terminals[AgentId(UUID(agent.id))].control = Control()
        link.mend()
        await visitor.attached()
        await page.get_by_role("button", name="Type here").click()
        await expect(page.locator('[data-control="mine"]')).to_be_visible()
        await page.locator(".host").click()
        await page.keyboard.type("typed again\n")
        await visitor.sees("typed again")
        await page.get_by_role("button", name="Interrupt").click()


async def test_pasted_text_cannot_act(center: Api, visit, tmp_path: Path) -> None:
    """Control characters of a paste are shown as symbols, in and outside of a bracketed paste; several lines are asked
    about where the program does not know that they are pasted; a line that the kernel would cut is rejected."""
    async with agent_running(center, tmp_path):
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        await visitor.attached()
        await visitor.send(
            "echo begun-$((1)); head -n 4; printf '\\033[?2004h'; echo bracketed-$((1)); head -n 1; echo end-$((1))"
        )
        await visitor.sees("begun-1")
        await page.get_by_role("button", name="Type here").click()
        await expect(page.locator('[data-control="mine"]')).to_be_visible()
        await page.evaluate(PASTES, "one\x03\x04two")
        await page.keyboard.press("Enter")
        await visitor.sees("one␃␄two\none␃␄two")  # echoed by the terminal, and printed by the program
        dialog = page.get_by_role("dialog", name="Paste 3 lines?")
        await page.evaluate(PASTES, "never\nnever\nnever")
        await dialog.get_by_role("button", name="Cancel").click()
        await page.evaluate(PASTES, "a\n\x1bb\u202e\nc\n")
        await expect(dialog.locator("pre")).to_have_text("a\n␛b\\u202e\nc\n", use_inner_text=True)
        await page.keyboard.press("Enter")  # its button has the focus
        await visitor.sees("bracketed-1")
        await page.evaluate(PASTES, "x" * 5000)
        await visitor.noticed("has more than 4,095 bytes")
        await page.evaluate(PASTES, "x\x1b[201~y")
        await page.keyboard.press("Enter")
        await visitor.sees("end-1")
        text = await visitor.terminal()
        assert "x␛[201~y" in text and "never" not in text


async def test_only_the_window_that_types_sets_the_size(center: Api, visit, tmp_path: Path) -> None:
    """An onlooker's small window changes nothing, unless the person asks for it while nobody types; the window that
    types sets its size, but not below 80 × 24."""
    account = await center.operator(Role.OPERATOR)
    async with agent_running(center, tmp_path):
        large = await visit(center.url)
        await large.come_back(account.email)
        await large.attached()
        await large.send("echo begun-$((1)); read x; stty size; seq 60; sleep 1000")
        await large.sees("begun-1")
        small = await visit(center.url, {"width": 500, "height": 400})
        await small.come_back(account.email, "/#/agents/one")
        await small.attached()
        await small.page.get_by_role("button", name="Screen", exact=True).click()  # in the place of the wrapped text
        for window in (large, small):
            await expect(window.page.locator(".size")).to_have_text("120×32")
        await small.page.get_by_role("button", name="Type here").click()
        for window in (large, small):
            await expect(window.page.locator(".size")).to_have_text("80×24")
        await expect(large.page.get_by_role("button", name="Fit to me")).to_have_count(0)
        await expect(small.page.locator('[data-control="mine"]')).to_be_visible()
        await small.page.keyboard.press("Enter")
        await small.sees("24 80")
        await small.page.get_by_role("button", name="Fit to me").click()
        await expect(large.page.locator(".size")).not_to_have_text("80×24")
        await small.page.get_by_role("button", name="Release control").click()
        await large.page.get_by_role("button", name="Fit to me").click()
        columns, _, rows = (await large.page.locator(".size").inner_text()).partition("×")
        await expect(large.page.get_by_role("button", name="Fit to me")).to_have_count(0)
        large_size = await large.page.locator(".size").inner_text()
        assert large_size not in ("120×32", "80×24") and columns and rows
        await small.page.set_viewport_size({"width": 420, "height": 380})
        await expect(small.page.locator(".size")).to_have_text(large_size)
        await small.page.wait_for_function(SEES_THE_CURSOR)
        assert await small.page.evaluate("() => document.querySelector('.emulator').scrollTop") > 0
        await large.send("true")
        await expect(large.page.locator(".size")).to_have_text(large_size)


async def test_a_text_for_a_running_program_is_queued_or_typed(center: Api, visit, tmp_path: Path) -> None:
    """While a program runs, the box says where Enter sends the text; Ctrl-Enter types it into the program."""
    async with agent_running(center, tmp_path):
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        await visitor.attached()
        box = page.get_by_role("textbox", name="Command for")
        await box.fill("echo nothing runs yet")
        await expect(page.get_by_text("queues this text as a command behind it")).to_have_count(0)
        await visitor.send("echo begun-$((1)); read line; echo got-$line")
        await visitor.sees("begun-1")
        await box.fill("an answer")
        await expect(page.get_by_text("Enter queues this text as a command behind it")).to_be_visible()
        await box.press("Control+Enter")
        await visitor.sees("got-an answer")
        await expect(box).to_have_value("")
