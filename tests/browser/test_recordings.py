"""Searching, playing and exporting recordings on the page."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from playwright.async_api import Route
from support.agents import Operator, agent_running, until
from support.expecting import expect
from support.pictures import picture
from support.recordings import NOON, add_command, add_commands, add_output, add_size, add_stream
from support.server import Api

from onsembl.protocol.states import Role
from onsembl.tasks.search_index import index_round

PHONE = {"width": 390, "height": 844}


async def recorded(center: Api):
    """A recording of an hour: two commands, a long pause between them."""
    agent = await center.enrol("builder")
    stream = await add_stream(center, agent.id)
    await add_size(center, stream, 0, 100, 24)
    first = [b"$ make test\r\n", *(f"\x1b[32mok\x1b[m {n:4} src/part_{n}.c\r\n".encode() for n in range(60))]
    await add_output(center, stream, *first, step=0.1)
    size = sum(map(len, first))
    await add_command(center, agent.id, stream, "make test", 0, size)
    second = [b"$ make all\r\n", b"\x1b[31merror: disk /dev/sda1 is full\x1b[m\r\n", *[b"note\r\n"] * 200]
    await add_output(center, stream, *second, after=3600, step=0.1)
    command = await add_command(center, agent.id, stream, "make all", size, size + sum(map(len, second)))
    while await index_round(center.services.pool, all_streams=True):
        pass
    return agent, stream, command


async def test_a_search_result_opens_the_recording_at_its_place(center: Api, visit) -> None:
    """A search leads to the screen as it was; a command's part can be played and exported."""
    _, stream, _ = await recorded(center)
    visitor = await visit(center.url, timezone_id="UTC")
    await visitor.come_back((await center.operator(Role.VIEWER)).email, path="/#/recordings")
    page = visitor.page
    await expect(page.locator('[data-page="recordings"]').get_by_role("link", name="builder")).to_be_visible()
    await picture(page, "recordings")
    await page.get_by_role("searchbox").fill('"/dev/sda1 is full"')
    await page.get_by_role("button", name="Search", exact=True).click()
    await expect(page.locator("mark")).to_have_text("/dev/sda1 is full")
    await picture(page, "search")
    await page.get_by_role("list", name="Results").get_by_role("link").click()
    await expect(page.locator('.player[data-state="paused"]')).to_be_visible()
    await visitor.sees("error: disk /dev/sda1 is full")
    assert "ok   59" in await visitor.terminal()
    assert "note" not in await visitor.terminal()
    await expect(page.locator('.middle [aria-current="true"]')).to_contain_text("make all")
    await picture(page, "player")
    await page.go_back()
    await expect(page.locator("mark")).to_be_visible()
    await page.goto(f"{center.url}/#/recordings/builder")
    await page.get_by_label("From").fill(f"{NOON:%Y-%m-%d}T12:59")
    await page.get_by_label("to", exact=True).fill(f"{NOON:%Y-%m-%d}T14:00")
    await picture(page, "recordings-of-agent")
    async with page.expect_download() as started:
        await page.get_by_role("combobox", name="Export builder, all terminals").select_option("plain text")
    download = await started.value
    text = Path(await download.path()).read_text()
    assert text.startswith("$ make all\n") and text.count("note") == 200
    await page.emulate_media(color_scheme="dark")
    await picture(page, "recordings-of-agent-dark")
    await page.emulate_media(color_scheme="light")
    await page.get_by_role("link", name="make test").click()
    await visitor.sees("ok   59")
    assert "make all" not in await visitor.terminal()
    async with page.expect_download() as started:
        await page.get_by_role("combobox", name="Export builder").select_option("asciicast v3")
    download = await started.value
    assert download.suggested_filename == "builder.cast"
    lines = Path(await download.path()).read_text().splitlines()
    assert json.loads(lines[0])["version"] == 3 and len(lines) == 63
    await page.get_by_role("link", name="Whole recording").click()
    await expect(page.get_by_role("list", name="Commands in this recording").get_by_role("button")).to_have_count(2)
    assert str(stream) in page.url


async def test_the_player_follows_keys_and_clicks(center: Api, visit) -> None:
    """Keys and clicks play, skip a pause, seek by the timeline and by digits, and jump between commands."""
    _, stream, _ = await recorded(center)
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator(Role.VIEWER)).email, path=f"/#/recordings/builder/{stream}?at=0")
    page = visitor.page
    await expect(page.locator('.player[data-state="paused"]')).to_be_visible()
    place = page.get_by_role("slider", name="Position in the recording")
    await page.keyboard.press("n")
    await visitor.sees("ok   59")
    assert "make all" not in await visitor.terminal()
    await page.keyboard.press("p")
    await page.wait_for_function("() => !window.onsembl.terminal.text().includes('ok   59')")
    for _ in range(4):
        await page.keyboard.press("]")
    await expect(page.get_by_role("combobox", name="Speed")).to_have_value("16")
    await page.keyboard.press("Space")
    await visitor.sees("note")  # the pause was skipped, which lasts almost an hour
    await page.keyboard.press("Space")
    await expect(page.get_by_role("button", name="Play")).to_be_visible()
    await page.keyboard.press("5")
    await page.wait_for_function("() => !window.onsembl.terminal.text().includes('make all')")
    await page.get_by_role("button", name="make all").click()
    await page.keyboard.press("i")
    await expect(page.get_by_role("checkbox", name="Skip pauses")).not_to_be_checked()
    await place.focus()
    await page.keyboard.press("End")
    await visitor.sees("error: disk")
    await page.set_viewport_size(PHONE)
    await picture(page, "player-phone")
    await page.emulate_media(color_scheme="light")
    await picture(page, "player-phone-light")
    await page.set_viewport_size({"width": 1440, "height": 900})
    await picture(page, "player-light")


async def with_commands(center: Api, count: int):
    """A recording of `count` commands with one line of output each."""
    agent = await center.enrol("builder")
    stream = await add_stream(center, agent.id)
    await add_output(center, stream, *[b"\n"] * count)
    await add_commands(center, agent.id, stream, count, 0)
    return stream


async def test_a_recording_has_all_of_its_commands(center: Api, visit) -> None:
    """The list of many commands turns its pages with the recording, and by its buttons."""
    stream = await with_commands(center, 1200)
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator(Role.VIEWER)).email, path=f"/#/recordings/builder/{stream}?at=0")
    commands = visitor.page.get_by_role("list", name="Commands in this recording")
    await expect(commands.get_by_role("button")).to_have_count(201)
    await expect(commands.locator('[aria-current="true"]')).to_have_count(1)  # the player is at the beginning
    await commands.get_by_role("button", name="Later commands").click()
    await commands.get_by_role("button", name="command 201 ").click()
    await expect(commands.locator('[aria-current="true"]')).to_contain_text("command 201")
    await visitor.page.keyboard.press("9")
    await expect(commands.locator('[aria-current="true"]')).to_contain_text("command 1081")
    await picture(visitor.page, "player-commands")
    await expect(commands.get_by_role("button", name="Later commands")).to_have_count(0)


async def test_the_player_opens_at_a_command_that_was_chosen_before_it_was_ready(center: Api, visit) -> None:
    """The player opens at a command that was chosen before its list was complete."""
    stream = await with_commands(center, 10)
    visitor = await visit(center.url)
    let_go = asyncio.Event()

    async def hold(route: Route) -> None:
        await let_go.wait()
        await route.continue_()

    await visitor.page.route("**/pieces?*", hold)
    await visitor.come_back((await center.operator(Role.VIEWER)).email, path=f"/#/recordings/builder/{stream}?at=0")
    await visitor.page.get_by_role("button", name="command 7 ").click()
    await expect(visitor.page.locator('.player[data-state="opening"]')).to_be_visible()
    let_go.set()
    await expect(visitor.page.locator('.player[data-state="paused"]')).to_be_visible()
    commands = visitor.page.get_by_role("list", name="Commands in this recording")
    await expect(commands.locator('[aria-current="true"]')).to_contain_text("command 7")


async def test_a_command_is_replayed_from_the_fleet(center: Api, visit, tmp_path: Path) -> None:
    """The row of an ended command has a link to its recording."""
    account = await center.operator(Role.OPERATOR)
    operator = Operator(center, account)
    async with agent_running(center, tmp_path) as agent:
        command = await operator.send(agent.id, "echo to-be-replayed")
        row = await operator.until_state(command, "succeeded")

        async def archived() -> bool:
            answer = await center.http.get(f"/v1/streams/{row['stream_id']}", headers=account.headers)
            return answer.json()["end"] >= row["output_end"]

        await until(archived, "the archive")
        visitor = await visit(center.url)
        await visitor.come_back(account.email)
        await visitor.command("echo to-be-replayed", "succeeded").locator("[data-row]").click()
        await visitor.page.get_by_role("link", name="Replay and export").click()
        await expect(visitor.page.locator(".player")).to_be_visible()
        await visitor.sees("to-be-replayed")


async def test_missing_recordings_are_reported(center: Api, visit) -> None:
    """The page reports an empty recording, a wrong address and a search without a match."""
    agent = await center.enrol("quiet")
    stream = await add_stream(center, agent.id)
    visitor = await visit(center.url)
    visitor.console.expect("404")
    await visitor.come_back((await center.operator(Role.VIEWER)).email, path=f"/#/recordings/quiet/{stream}")
    await expect(visitor.page.get_by_text("This terminal has no recorded output.")).to_be_visible()
    await visitor.page.goto(f"{center.url}/#/recordings/quiet/{agent.id}")
    await expect(visitor.page.get_by_text("Stream not found.")).to_be_visible()
    await visitor.page.goto(f"{center.url}/#/recordings?q=nowhere")
    await expect(visitor.page.get_by_text("Nothing found.")).to_be_visible()
