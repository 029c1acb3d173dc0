"""Measure the time from a click on an agent until its scrollback is on the screen, in a real browser.

    python loadtests/scrollback_bench.py [--lines 10000] [--clicks 10] [--json FILE]

Starts a control center and an agent whose terminal has this many lines. Chromium switches from an empty
one to this agent, each time on a page that has not shown it before. The time runs from the click until the frame after
the one in which the last line is in the document. The target is 300 ms for 10,000 lines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import async_playwright

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.protocol.states import AgentKind

ONSEMBL = (sys.executable, "-m", "onsembl.cli.main")
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
LINE = "a line of output such as a compiler, a test or a coding agent writes, number"
CLICK = """
async (last) => {
  const click = document.querySelector('[data-agent="full"]');
  const began = performance.now();
  click.click();
  while (!(document.querySelector('.host .xterm-rows')?.textContent ?? '').includes(last)) {
    await new Promise(requestAnimationFrame);
  }
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}
"""


def browser_path() -> str | None:
    """The system's Chromium; None for Playwright's own."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


async def measure_in_browser(url: str, email: str, password: str, lines: int, clicks: int) -> dict[str, Any]:
    """The milliseconds of each click, and the number of lines in the terminal."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.goto(f"{url}/#/agents/empty")
        await page.get_by_label("E-mail").fill(email)
        await page.get_by_label("Password").fill(password)
        await page.get_by_role("button", name="Sign in").click()
        await page.locator('[data-agent="full"]').wait_for()
        took: list[float] = []
        for _ in range(clicks + 1):
            took.append(await page.evaluate(CLICK, f"{LINE} {lines}"))
            held = await page.evaluate("() => window.onsembl.terminal.text().split('\\n').length")
            await page.goto(f"{url}/#/agents/empty")
            await page.reload()
            await page.locator('[data-agent="full"]').wait_for()
        renderer = await page.evaluate("() => window.onsembl.terminal.renderer()")
        await browser.close()
    first, rest = took[0], sorted(took[1:])
    return {
        "lines": lines,
        "lines_held": held,
        "renderer": renderer,
        "first_ms": round(first),
        "median_ms": round(statistics.median(rest)),
        "slowest_ms": round(rest[-1]),
    }


async def fill(folder: Path, url: str, email: str, password: str, lines: int, clicks: int) -> dict[str, Any]:
    """Start two agents, one with this many lines; then click."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        key = (await http.get("/config.json")).json()["supabase_key"]
        account = {"email": email, "password": password}
        answer = await http.post("/auth/v1/token?grant_type=password", json=account, headers={"apikey": key})
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        for name in ("empty", "full"):
            token = (await http.post("/v1/enrolment-tokens", json={}, headers=headers)).json()["token"]
            credentials = await enrol(url, token, name, AgentKind.SHELL)
            store.save(folder / "agents" / name, credentials)
        agent = await asyncio.create_subprocess_exec(
            *(*ONSEMBL, "agent", "run", "--name", "full", "--state-dir", str(folder / "agents"), "--cwd", str(folder))
        )
        try:
            path = f"/v1/agents/{credentials.agent_id}/commands"
            command = (await http.post(path, json={"text": f"seq -f '{LINE} %.0f' {lines}"}, headers=headers)).json()
            async with asyncio.timeout(60):
                while command["ended_at"] is None:
                    await asyncio.sleep(0.1)
                    command = (await http.get(f"/v1/commands/{command['id']}", headers=headers)).json()
            return await measure_in_browser(url, email, password, lines, clicks)
        finally:
            agent.send_signal(signal.SIGTERM)
            await agent.wait()


def measure(lines: int = 10_000, clicks: int = 10) -> dict[str, Any]:
    """The benchmark on a control center of its own."""
    with tempfile.TemporaryDirectory(prefix="onsembl-scrollback-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        center = subprocess.Popen(
            [*ONSEMBL, "up", "--port", "0", "--data-dir", str(folder / "data")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert center.stdout is not None
        said = ""
        patterns = [
            re.compile(pattern) for pattern in (r"ready at (\S+)", r"Sign in with\s+(\S+)", r"password\s+(\S+)")
        ]
        try:
            while not all(pattern.search(said) for pattern in patterns):
                line = center.stdout.readline()
                assert line, said
                said += line
            url, email, password = (match[1] for pattern in patterns if (match := pattern.search(said)))
            return asyncio.run(fill(folder, url, email, password, lines, clicks))
        finally:
            center.send_signal(signal.SIGINT)
            center.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    result = measure(options.lines, options.clicks)
    for name, value in result.items():
        print(f"{name:>14}  {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
