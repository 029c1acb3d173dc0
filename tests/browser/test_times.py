"""The times of terminal lines on the page, and the way from the terminal to older output."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from playwright.async_api import Error, Page
from support.agents import agent_running
from support.expecting import expect
from support.pictures import picture
from support.recordings import NOON, add_output, add_size, add_stream
from support.server import Api

from onsembl.protocol.states import Role
from onsembl.sql.database import connect
from onsembl.tasks.search_index import index_round

DAY = f"{NOON.day} {NOON:%b}"
SHOWN = "([...document.querySelectorAll('.times > div')].map((row) => row.textContent))"


async def shows(page: Page, row: int, text: str) -> None:
    """Wait until the column of times has this text in a row."""
    try:
        await page.wait_for_function(f"([row, text]) => {SHOWN}[row] === text", arg=[row, text])
    except Error as error:
        raise AssertionError(f"row {row} has not {text!r}: {await page.evaluate(SHOWN)}") from error


async def recorded(center: Api) -> None:
    """An offline agent with an earlier stream, and a present one of two hours later: a line each second."""
    agent = await center.enrol("builder")
    for after, lines in (
        (0, [b"error %d: disk /dev/sda1 is full\r\n" % n for n in range(3)]),
        (7200, [b"line %d\r\n" % n for n in range(100)]),
    ):
        stream = await add_stream(center, agent.id)
        await add_size(center, stream, 0, 100, 24)
        await add_output(center, stream, *lines, after=after)
        async with await connect(center.database_url, role="onsembl_api") as conn:
            await conn.execute(
                "update agents set stream_id = %s, columns = 100, rows = 24 where id = %s", [stream, UUID(agent.id)]
            )
    while await index_round(center.services.pool, all_streams=True):
        pass


async def test_lines_have_their_times_and_a_time_leads_to_its_line(center: Api, visit) -> None:
    """The times of lines are shown on demand, remembered, scrolled with the lines, and shown in a recording. A time
    leads to its line in the scrollback, or in the recording, and a button back to the newest line; a search counts the
    matches of the archive."""
    await recorded(center)
    visitor = await visit(center.url, timezone_id="UTC")
    await visitor.come_back((await center.operator(Role.VIEWER)).email)
    page = visitor.page
    await visitor.sees("line 99")
    assert await page.evaluate(SHOWN) == []
    await page.keyboard.press("g")
    await shows(page, 0, f"{DAY} 14:01:17")
    await shows(page, 22, "14:01:39")
    await shows(page, 23, "")
    await picture(page, "times")
    await page.reload()
    await shows(page, 22, "14:01:39")
    await page.keyboard.press("Shift+G")
    box = page.get_by_role("textbox", name="Jump to a time")
    await box.fill("tea time")
    await box.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("Write a time as 15:40")
    await picture(page, "times-jump")
    await box.fill(f"{NOON:%Y-%m-%d} 14:00:10")
    await box.press("Enter")
    await shows(page, 0, f"{DAY} 14:00:10")
    await expect(box).to_have_count(0)
    newest = page.get_by_role("button", name="Newest", exact=True)
    await newest.click()
    await shows(page, 22, "14:01:39")
    await expect(newest).to_have_count(0)
    await page.keyboard.press("Control+f")
    await page.get_by_role("textbox", name="Find in the terminal").fill("/dev/sda1 is")
    older = page.locator("[data-older]")
    await expect(older).to_have_text("older: 3 hits in the archive")
    await older.click()
    await picture(page, "times-search")
    await page.get_by_role("list", name="Results").get_by_role("link").first.click()
    await visitor.sees("/dev/sda1 is full")
    await shows(page, 2, "12:00:02")
    await picture(page, "times-recording")
    await page.go_back()
    await visitor.sees("line 99")
    await page.keyboard.press("Shift+G")
    await box.fill(f"{NOON:%Y-%m-%d} 12:00:01")
    await box.press("Enter")
    await shows(page, 1, "12:00:01")
    assert (await visitor.terminal()).count("/dev/sda1 is full") == 2, "the recording is not at the time"
    await page.keyboard.press("Shift+G")
    await box.fill(f"{NOON:%Y-%m-%d} 14:00:20")
    await box.press("Enter")
    await visitor.sees("line 20")
    await page.keyboard.press("Shift+G")
    await box.fill("-10s")
    await box.press("Enter")
    await page.wait_for_function("() => !window.onsembl.terminal.text().includes('line 12')")
    await expect(box).to_have_count(0)
    await page.keyboard.press("g")
    await page.wait_for_function(f"() => {SHOWN}.length === 0")


async def test_live_lines_have_times_but_a_full_screen_has_none(center: Api, visit, tmp_path: Path) -> None:
    """A line has the second in which the server received it, also in a window of another width; a program on the
    alternate screen has no times beside it."""
    async with agent_running(center, tmp_path):
        visitor = await visit(center.url, timezone_id="UTC")
        await visitor.come_back((await center.operator()).email)
        await visitor.attached()
        page = visitor.page
        await page.keyboard.press("g")
        seen = tmp_path / "seen"
        before = datetime.now(UTC)
        await visitor.send(
            f"printf '\\033[?1049hfull'; until [ -e {seen} ]; do sleep 0.05; done; printf '\\033[?1049lback'"
        )
        await visitor.sees("full")
        await page.wait_for_function(f"() => {SHOWN}.length > 0 && {SHOWN}.every((text) => text === '')")
        seen.touch()
        await visitor.sees("back")
        await page.set_viewport_size({"width": 1024, "height": 600})
        await page.wait_for_function(f"() => {SHOWN}[0] !== ''")
        times = [text for text in await page.evaluate(SHOWN) if text]
        seconds = {
            f"{before + timedelta(seconds=n):%H:%M:%S}" for n in range(int((datetime.now(UTC) - before).seconds) + 2)
        }
        assert set(times) <= seconds, f"{times} are not in {seconds}"
        await picture(page, "times-live-1024")
