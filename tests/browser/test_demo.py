"""The first steps of a new user: `onsembl up --demo`, a browser, and the printed e-mail and password."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import psutil
import pytest
import pytest_asyncio
from playwright.async_api import expect
from support.control_center import clean_environment
from support.folders import data_folder
from support.pictures import DESK, pictures

READY = re.compile(r"ready at (http://\S+)")
ACCOUNT = re.compile(r"Sign in with\s+(\S+)\s+and password\s+(\S+)")


class ControlCenter:
    """An `onsembl up --demo` in its own process and data folder, with these additional environment variables."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self._folder = folder
        self._environment = clean_environment(PYTHONUNBUFFERED="1", **variables)
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0
        self.url = ""
        self.email = ""
        self.password = ""

    async def start(self) -> None:
        """Start, and wait until it is ready; a second start uses the same port."""
        onsembl = Path(sys.executable).with_name("onsembl")
        self._process = await asyncio.create_subprocess_exec(
            *(onsembl, "up", "--demo", "--port", str(self.port), "--data-dir", self._folder),
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
        )
        assert self._process.stdout is not None
        said = ""
        while not (ready := READY.search(said)):
            line = await self._process.stdout.readline()
            assert line, f"it ended before it was ready:\n{said}"
            said += line.decode()
        self.url = ready[1]
        self.port = int(self.url.rpartition(":")[2])
        if account := ACCOUNT.search(said):
            self.email, self.password = account.groups()

    async def stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        await self._process.communicate()


@pytest_asyncio.fixture(loop_scope="session")
async def demo(dashboard: Path) -> AsyncGenerator[ControlCenter]:
    with data_folder() as folder:
        center = ControlCenter(folder / "data")
        await center.start()
        yield center
        await center.stop()


def sleeping(seconds: str) -> list[int]:
    """The ids of processes `sleep SECONDS`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline() == ["sleep", seconds]:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.seconds(10)
async def test_from_one_command_to_a_cancelled_one(demo: ControlCenter, visit) -> None:
    """A user signs in with the printed account, runs a command on the demo agent, cancels another with its processes,
    approves what the assistant asks, and cancels the builds."""
    visitor = await visit(demo.url)
    await visitor.sign_in(demo.email, demo.password)
    await visitor.page.locator('[data-agent="demo"][data-status="online"]').click()  # else one that waits is shown
    await visitor.sees("This is the demo agent.")
    line = visitor.page.get_by_role("complementary", name="Demo")
    await expect(line).to_contain_text("This is a demo.")
    await line.get_by_role("button", name="Begin for real").click()
    await expect(line).to_contain_text("Press Ctrl-C")
    await pictures(visitor.page, "demo")
    await visitor.page.set_viewport_size(DESK)

    await visitor.send("echo hello-$((40+2))")
    await visitor.sees("hello-42")
    await expect(visitor.command("echo hello-$((40+2))", "succeeded")).to_be_visible()

    seconds = f"1000.{os.getpid()}"  # distinguishes it from another test's process
    await visitor.send(f"sleep {seconds}")
    running = visitor.command(f"sleep {seconds}", "running")
    await expect(running).to_be_visible()
    async with asyncio.timeout(60):
        while not sleeping(seconds):  # its shell runs, but has not started it yet
            await asyncio.sleep(0.02)
    assert len(sleeping(seconds)) == 1
    await visitor.cancel(running)
    await expect(visitor.command(f"sleep {seconds}", "cancelled")).to_be_visible()
    assert sleeping(seconds) == []

    await visitor.page.reload()
    await visitor.live()
    await visitor.sees("hello-42")
    await expect(visitor.command(f"sleep {seconds}", "cancelled")).to_be_visible()

    await visitor.page.locator('[data-agent="demo-assistant"]').click()
    for asked in ("discount.py", "-m unittest"):
        card = visitor.page.locator("[data-request]", has_text=asked)
        await card.get_by_role("button", name="Allow").first.click()
    await visitor.sees("The discount is mended, and the tests pass.")
    await expect(visitor.command("Mend the discount, and run the tests.", "succeeded")).to_be_visible()

    await visitor.page.locator('[data-agent="demo-builds"]').click()
    await visitor.cancel(visitor.command("sh builds.sh", "running"))
    await expect(visitor.command("echo 'This waits until the builds are cancelled.'", "succeeded")).to_be_visible()


@pytest_asyncio.fixture(loop_scope="session")
async def demo_beside_its_database(database_url: str, dashboard: Path, tmp_path: Path) -> AsyncGenerator[ControlCenter]:
    """A control center without an embedded Postgres, which starts faster."""
    center = ControlCenter(tmp_path / "data", DATABASE_URL=database_url)
    await center.start()
    yield center
    await center.stop()


@pytest.mark.seconds(10)
async def test_the_page_outlives_its_server(demo_beside_its_database: ControlCenter, visit) -> None:
    """While the server is down, the page shows this and keeps its rows; afterwards it shows the present state."""
    demo = demo_beside_its_database
    visitor = await visit(demo.url)
    visitor.console.expect("ERR_CONNECTION_REFUSED|WebSocket|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|503")
    await visitor.sign_in(demo.email, demo.password)
    await visitor.page.locator('[data-agent="demo"]').click()
    await visitor.send("echo before-$((1+1))")
    await expect(visitor.command("echo before-$((1+1))", "succeeded")).to_be_visible()
    await visitor.send("sleep 1000")
    await expect(visitor.command("sleep 1000", "running")).to_be_visible()

    await demo.stop()
    await expect(visitor.page.locator('[data-mark="reconnecting"]')).to_be_visible()
    await expect(visitor.page.locator('.host:not([data-link="attached"])')).to_be_visible()
    await expect(visitor.command("echo before-$((1+1))", "succeeded")).to_be_visible()

    await demo.start()
    await visitor.live()
    await visitor.attached()
    await expect(visitor.page.locator('[data-agent="demo"][data-status="online"]')).to_be_visible()
    await visitor.send("echo after-$((1+1))")
    await visitor.sees("after-2")
    await expect(visitor.command("echo after-$((1+1))", "succeeded")).to_be_visible()
    shown = await visitor.page.eval_on_selector_all(
        "li[data-command]", "(rows) => Object.fromEntries(rows.map((row) => [row.dataset.command, row.dataset.state]))"
    )
    assert shown == await _states(demo, visitor)


async def _states(demo: ControlCenter, visitor) -> dict[str, str]:
    """The state of each command of the agent `demo`, as REST answers it."""
    token = await visitor.page.evaluate(
        """() => JSON.parse(localStorage[Object.keys(localStorage).find((key) => key.endsWith("-auth-token"))])
            .access_token"""
    )
    async with httpx.AsyncClient(base_url=demo.url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
        [agent] = [row for row in (await http.get("/v1/agents")).json()["agents"] if row["name"] == "demo"]
        commands = (await http.get("/v1/commands", params={"agent_id": agent["id"]})).json()["commands"]
        return {row["id"]: row["state"] for row in commands}
