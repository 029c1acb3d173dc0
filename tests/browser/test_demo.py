"""The first steps of a new user: `onsembl up --demo`, a browser, and the printed e-mail and password."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from support.control_center import clean_environment
from support.expecting import expect
from support.folders import data_folder
from support.pictures import DESK, pictures

READY = re.compile(r"ready at (http://\S+)")
ACCOUNT = re.compile(r"Sign in with\s+(\S+)\s+and password\s+(\S+)")


class ControlCenter:
    """An `onsembl up --demo` in its own process and data folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""
        self.email = ""
        self.password = ""

    async def start(self) -> None:
        """Start, and wait until it is ready."""
        onsembl = Path(sys.executable).with_name("onsembl")
        self._process = await asyncio.create_subprocess_exec(
            *(onsembl, "up", "--demo", "--port", "0", "--data-dir", self._folder),
            stdout=asyncio.subprocess.PIPE,
            env=clean_environment(PYTHONUNBUFFERED="1"),
        )
        assert self._process.stdout is not None
        said = ""
        while not (ready := READY.search(said)):
            line = await self._process.stdout.readline()
            assert line, f"it ended before it was ready:\n{said}"
            said += line.decode()
        self.url = ready[1]
        account = ACCOUNT.search(said)
        assert account, said
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
