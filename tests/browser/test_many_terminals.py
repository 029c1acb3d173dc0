"""Many terminals at once: the tiles of the wall, and the merged lines of the stream."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest
from support.agents import Operator
from support.api_calls import call_api
from support.asking_agents import AskingAgent
from support.expecting import expect
from support.frames import HELLO, next_message
from support.server import Api

from onsembl.api.settings import Settings
from onsembl.protocol.messages import encode_output

LINES = """() => [...document.querySelectorAll("[data-line]")].map((line) =>
    [line.querySelector("a").textContent.trim(), line.querySelector(".text").textContent])"""
DRAWN = """(name) => {
    const canvas = document.querySelector(`[data-tile="${name}"] canvas`);
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value, index) => index % 4 !== 3 && value !== data[index % 4]);
}"""


@pytest.fixture
def settings(database_url: str) -> Settings:
    """The agents are bare sockets, which answer no ping."""
    return Settings(database_url=database_url, public_url="", heartbeat=3600)


@pytest.mark.no_worker
async def test_the_wall_and_the_stream_show_many_agents(center: Api, visit, subtests) -> None:
    """A tile has the screen of its agent as the terminal would have it, its state, and what can be done; the stream has
    the lines of all in the order of their times, what came before it was opened too."""
    operator = Operator(center, await center.operator())
    names = [f"agent-{number}" for number in range(6)]
    async with AsyncExitStack() as stack:
        sockets = {}
        for number, name in enumerate(names):
            agent = await center.enrol(name)
            socket = await stack.enter_async_context(center.agent_socket(agent))
            await socket.send(
                json.dumps({**HELLO, "kind": "claude" if number == 0 else "shell", "takes_answers": True})
            )
            await next_message(socket, "welcome")
            sockets[name] = socket, agent
        ends = dict.fromkeys(names, 0)

        async def prints(name: str, text: str) -> None:
            data = text.encode()
            await sockets[name][0].send(encode_output(ends[name], data))
            ends[name] += len(data)

        for number, name in enumerate(names):
            await prints(name, f"before {number}\r\n")
        socket, agent = sockets["agent-0"]
        command = await operator.send(agent.id, "do it", conversation="latest")
        await next_message(socket, "offer")
        report = {"command_id": command["id"], "output_start": 0, "started_at": datetime.now(UTC).isoformat()}
        await socket.send(json.dumps({"type": "accepted", **report}))
        await AskingAgent(agent, socket, command).ask()
        visitor = await visit(center.url)
        page = visitor.page

        async def tile_has(name: str, text: str) -> None:
            holds = "([name, text]) => window.onsembl.tile(name).includes(text)"
            await page.wait_for_function(holds, arg=[name, text])

        await visitor.come_back("admin@example.org", "/#/wall?layout=2x2")
        with subtests.test("tiles"):
            for name in names[:4]:
                await expect(page.locator(f'[data-tile="{name}"][data-link="attached"]')).to_be_visible()
                await tile_has(name, "before")
            assert await page.locator("[data-tile]").count() == 4
            await prints("agent-1", "\x1b[2J\x1b[H\x1b[31mredrawn\x1b[0m")
            await tile_has("agent-1", "redrawn")
            assert "before" not in await page.evaluate("window.onsembl.tile('agent-1')")
            await page.wait_for_function(DRAWN, arg="agent-1")
            asking = page.locator('[data-tile="agent-0"][data-look="waiting"]')
            await expect(asking).to_contain_text("npm test")
            await asking.get_by_role("button", name="Cancel do it").dblclick()
            await next_message(socket, "cancel")
        with subtests.test("pages and filter"):
            await page.get_by_role("button", name="Next").click()
            await tile_has("agent-5", "before 5")
            assert await page.locator("[data-tile]").count() == 2
            await page.get_by_label("Layout").select_option("3x2")
            await expect(page.locator("[data-tile]")).to_have_count(6)
            await page.get_by_label("Filter agents").fill("agent-2")
            await expect(page.locator("[data-tile]")).to_have_count(1)
            assert re.search(r"layout=3x2", page.url) and "filter=agent-2" in page.url
            await page.get_by_label("Filter agents").fill("not offline")
            await expect(page.locator("[data-tile]")).to_have_count(6)
        with subtests.test("answer"):
            await page.locator('[data-tile="agent-0"]').get_by_role("link", name="Answer").click()
            await expect(page.locator('[data-page="inbox"]')).to_contain_text("npm test")
        with subtests.test("stream"):
            await page.get_by_role("navigation", name="Pages", exact=True).get_by_role("link", name="Fleet").click()
            await page.get_by_role("link", name="Stream").click()
            for number in range(6):
                await expect(page.locator("[data-line]").filter(has_text=f"before {number}")).to_be_visible()
            for number in (3, 2, 5):
                await prints(f"agent-{number}", f"\x1b[32mlive {number}\x1b[0m\r\n")
                await expect(page.locator("[data-line]").filter(has_text=f"live {number}")).to_be_visible()
            lines = await page.evaluate(LINES)
            assert lines[-3:] == [["agent-3", "live 3"], ["agent-2", "live 2"], ["agent-5", "live 5"]]
            await expect(page.locator("[data-line] time").last).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
            await page.get_by_role("button", name="Times").click()
            await expect(page.locator("[data-line] time")).to_have_count(0)
            await page.get_by_role("button", name="Pause").click()
            await prints("agent-4", "while paused\r\n")
            await page.get_by_label("Filter lines").fill("LIVE")
            await expect(page.locator("[data-line]")).to_have_count(3)
            async with page.expect_download() as download:
                await page.get_by_role("button", name="Export").click()
            exported = (await (await download.value).path()).read_text()
            assert exported == "agent-3 │ live 3\nagent-2 │ live 2\nagent-5 │ live 5\n"
            await page.get_by_label("Filter lines").fill("")
            await page.get_by_role("button", name="Pause").click()
            await expect(page.locator("[data-line]").filter(has_text="while paused")).to_be_visible()
            assert (await call_api(operator, "GET", "/v1/agents"))["agents"][3]["status"] == "online"


@pytest.mark.no_worker
async def test_the_terminals_that_were_shown_last_are_kept(center: Api, visit) -> None:
    """Shown again, a terminal has its lines without the server's help, and then what came meanwhile, once. Eight are
    kept besides the shown one."""
    names = [f"agent-{number}" for number in range(10)]
    async with AsyncExitStack() as stack:
        sockets = {}
        for name in names:
            sockets[name] = await stack.enter_async_context(center.agent_socket(await center.enrol(name)))
            await sockets[name].send(json.dumps(HELLO))
            await next_message(sockets[name], "welcome")
            await sockets[name].send(encode_output(0, f"before {name}".encode()))
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back((await center.operator()).email, f"/#/agents/{names[0]}")
        await visitor.sees(f"before {names[0]}")
        await page.locator('[data-agent="agent-1"]').click()
        await visitor.sees("before agent-1")
        await sockets[names[0]].send(encode_output(len("before agent-0"), b", and meanwhile"))
        await page.locator('[data-agent="agent-0"]').click()
        await visitor.sees("before agent-0, and meanwhile")
        assert (await visitor.terminal()).count("before") == 1
        for name in names[1:]:
            await page.locator(f'[data-agent="{name}"]').click()
            await visitor.sees(f"before {name}")
        await page.route_web_socket(re.compile("/terminal$"), lambda _: None)  # from now on, the server is silent
        await page.locator('[data-agent="agent-1"]').click()
        await visitor.sees("before agent-1")
        await page.locator('[data-agent="agent-0"]').click()
        await expect(page.locator('.host[data-link="connecting"] .xterm')).to_have_count(1)
        assert (await visitor.terminal()).strip() == ""
