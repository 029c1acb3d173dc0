"""The emergency stop on the page: by keyboard, on a phone, and its banner while it is in force."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.async_api import Page
from support.agents import agent_running
from support.expecting import expect
from support.frames import HELLO_TEXT, next_message
from support.server import Api

from onsembl.protocol.states import Role

PHONE = {"width": 390, "height": 844}
POSITIONS = """() => [...document.querySelectorAll("header .stopping, header .stopping ~ *, .columns > *, main")]
    .map((element) => element.getBoundingClientRect())
    .map(({ x, y, width, height }) => [x, y, width, height])"""


async def positions(page: Page) -> list[list[float]]:
    """The places and sizes of the header's buttons from the emergency stop on, and of the page's sections."""
    return await page.evaluate(POSITIONS)


async def test_one_button_stops_all_agents_and_shows_their_confirmation(center: Api, visit, tmp_path: Path) -> None:
    """The keyboard alone stops all agents from another page; every window shows the stop at once and moves nothing, and
    only an admin lifts it."""
    async with agent_running(center, tmp_path):
        admin, viewer = await visit(center.url), await visit(center.url)
        await admin.come_back((await center.operator()).email)
        await viewer.come_back((await center.operator(Role.VIEWER)).email)
        await admin.send("trap '' INT TERM; echo up-$((1+1)); while :; do sleep 1000; done")
        await admin.sees("up-2")
        await admin.page.goto(center.url + "/#/access")
        button = admin.page.get_by_role("button", name="Emergency stop")
        before = [await positions(visitor.page) for visitor in (admin, viewer)]
        await button.focus()
        await admin.page.keyboard.press("Enter")
        dialog = admin.page.get_by_role("dialog", name="Emergency stop")
        await expect(dialog.get_by_role("button", name="Stop all agents")).to_be_focused()
        await dialog.get_by_label("Reason").fill("a drill")
        await admin.page.keyboard.press("Enter")
        for visitor in (admin, viewer):
            banner = visitor.page.get_by_role("region", name="Emergency stop")
            await expect(banner.get_by_text("1 agent confirmed that no process is left.")).to_be_visible()
            await expect(banner.get_by_text("a drill")).to_be_visible()
            assert await visitor.page.get_by_role("button", name="Emergency stop").count() == 0
        assert await viewer.page.get_by_role("button", name="Lift").count() == 0
        assert [await positions(visitor.page) for visitor in (admin, viewer)] == before
        await banner.get_by_role("button", name="Hide").click()
        await expect(banner).to_have_count(0)
        await viewer.page.get_by_role("button", name="Stopped: show the progress").click()
        await expect(banner).to_be_visible()
        await admin.page.get_by_role("button", name="Lift").click()
        await admin.page.get_by_role("button", name="Press again to lift").click()
        for visitor in (admin, viewer):
            await expect(visitor.page.get_by_role("region", name="Emergency stop")).to_have_count(0)
        await expect(button).to_be_visible()
        assert [await positions(visitor.page) for visitor in (admin, viewer)] == before


async def test_a_phone_stops_the_fleet_and_shows_each_agent(center: Api, visit) -> None:
    """Two taps stop the fleet; the banner lists agents that stopped, cannot be reached, or have processes that survive
    SIGKILL."""
    away, dying, good = [await center.enrol(name) for name in ("away", "dying", "good")]
    async with center.agent_socket(away) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
    async with center.agent_socket(dying) as bad_socket, center.agent_socket(good) as good_socket:
        for socket in (bad_socket, good_socket):
            await socket.send(HELLO_TEXT)
            await next_message(socket, "welcome")
        phone = await visit(center.url, PHONE, has_touch=True, is_mobile=True)
        await phone.come_back((await center.operator(Role.OPERATOR)).email)
        await expect(phone.page.locator('[data-agent="away"][data-status="offline"]')).to_be_visible()
        await phone.page.get_by_role("button", name="Emergency stop").tap()
        await phone.page.get_by_role("button", name="Stop all agents").tap()
        halt = (await next_message(good_socket, "halt"))["halt_id"]
        report = {"type": "halt_progress", "halt_id": halt, "at": "2030-01-01T00:00:00Z"}
        step = {"state": "stopping", "step": "sigterm", "processes_left": 3}
        await bad_socket.send(json.dumps({**report, **step}))
        row = phone.page.locator("[data-halted]")
        await expect(row.filter(has_text="SIGTERM sent, 3 processes left")).to_be_visible()
        await good_socket.send(json.dumps({**report, "state": "stopped"}))
        await bad_socket.send(json.dumps({**report, "state": "dying", "processes_left": 1, "pids": [4711]}))
        await expect(row.filter(has_text="processes survived SIGKILL: 4711")).to_be_visible()
        await expect(phone.page.locator('[data-halted="good"][data-state="stopped"]')).to_be_visible()
        await expect(phone.page.locator('[data-halted="away"][data-state="not_reached"]')).to_be_visible()
        assert await phone.page.get_by_role("button", name="Lift").count() == 0


async def test_an_agent_is_paused_and_its_commands_cancelled_from_its_menu(center: Api, visit, tmp_path: Path) -> None:
    """Cancelling an agent's commands needs a second press, and the terminal's bar shows that the agent is paused."""
    async with agent_running(center, tmp_path):
        visitor = await visit(center.url)
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        await visitor.attached()
        page = visitor.page
        await visitor.send("sleep 1000")
        await expect(visitor.command("sleep 1000", "running")).to_be_visible()
        more = page.get_by_role("button", name="More for one")
        await more.click()
        await page.get_by_role("button", name="Pause: start no new commands").click()
        await expect(page.locator(".bar").get_by_text("paused", exact=True)).to_be_visible()
        await more.click()
        await page.get_by_role("button", name="Cancel all commands").click()
        await page.get_by_role("button", name="Press again: cancel all commands").click()
        await expect(visitor.command("sleep 1000", "cancelled")).to_be_visible()
        await more.click()
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator(".bar").get_by_text("paused", exact=True)).to_have_count(0)
