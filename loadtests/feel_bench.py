"""Measure how the page feels, in a real browser.

    python loadtests/feel_bench.py [--only switch paint fleet wall keys] [--seconds 10] [--json FILE]

Starts a control center, and connects agents over the agents' protocol. Chromium runs without a graphics card: software
draws each frame. Beside each figure stands the machine's load at that time (the processes that could run, by
processor), for a busy machine is slow in all of them; `main thread ms` is the processor's time, which hardly depends on
it. Targets:

- switch: from a click on an agent that was shown before to its last screen, 100 ms
- paint: the first paint at 1.6 Mbit/s and 150 ms to the server and back, 1.5 s, after at most 100 kB
- fleet: 1,000 agents, filtered, scrolled and switched: one frame in a hundred may take more than 50 ms
- wall: twelve terminals with output: 60 frames a second
- keys: from a key to the frame with its echo, 50 ms
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from center import Center, center
from clients import LoadAgent
from playwright.async_api import Browser, CDPSession, Page, async_playwright
from real_agent import real_agent
from scrollback_bench import ARGUMENTS, browser_path
from targets import Measures, Target, at_least, at_most

from onsembl.cli.server.database_url import running_database
from onsembl.sql.database import connect

AGENTS = 9
LINES = 2000
FLEET = 1000
TILES = 12
FLOOD_SECONDS = 0.05
"""The time between two lines of an agent on the wall."""
KEYS = 100
BYTES_PER_SECOND = 1_600_000 // 8
ROUND_TRIP_MS = 150
SLOW_MS = 50.0
PROGRAM = """
import os, tty
tty.setraw(0)
os.write(1, b"ready\\r\\n")
while key := os.read(0, 64):
    os.write(1, b"<" + key + b">")
"""
SWITCH = """async ([name, last]) => {
  const row = document.querySelector(`[data-agent="${name}"]`);
  const began = performance.now();
  row.click();
  const rows = () => document.querySelector('.host .xterm-rows')?.textContent ?? '';
  while (!rows().includes(last)) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""
FRAMES = """() => {
  const frames = [];
  let last = performance.now();
  let counting = true;
  const count = (now) => {
    frames.push(now - last);
    last = now;
    if (counting) requestAnimationFrame(count);
  };
  requestAnimationFrame(count);
  window.countedFrames = () => { counting = false; return frames.slice(1); };
}"""
SCROLL = """async () => {
  const list = document.querySelector('.agents .scroll');
  for (let step = 0; step < 60; step += 1) {
    list.scrollTop += 400;
    await new Promise(requestAnimationFrame);
  }
  list.scrollTop = 0;
  return list.scrollHeight;
}"""
ECHOED = """async (text) => {
  const rows = () => document.querySelector('.host .xterm-rows')?.textContent ?? '';
  while (!rows().includes(text)) await new Promise(requestAnimationFrame);
  return performance.now() - window.pressed;
}"""
PRESSED = "() => addEventListener('keydown', () => { window.pressed = performance.now(); }, true)"
PAINT = """() => {
  const paints = performance.getEntriesByName('first-contentful-paint');
  return paints.length > 0 ? paints[0].startTime : null;
}"""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the benchmark: what it measures of a page, and its targets."""

    measure: Callable[[Center, Browser, float], Awaitable[Measures]]
    targets: Sequence[Target]


def load_now() -> float:
    """How many processes could run, by processor."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


async def signed_in(server: Center, browser: Browser, path: str) -> Page:
    """A page of the operator, at this address."""
    page = await browser.new_page(viewport={"width": 1440, "height": 900})
    await page.goto(f"{server.url}/{path}")
    await page.get_by_label("E-mail").fill(server.email)
    await page.get_by_label("Password").fill(server.password)
    await page.get_by_role("button", name="Sign in").click()
    await page.locator('[data-mark="live"]').wait_for()
    return page


@asynccontextmanager
async def agents(server: Center, prefix: str, count: int) -> AsyncGenerator[list[LoadAgent]]:
    """Connected agents, each with some output that ends with its name."""
    made: list[LoadAgent] = []
    for number in range(count):
        credentials = await server.enrol(f"{prefix}-{number}")
        agent = LoadAgent()
        await agent.connect(server.url, credentials.access_token)
        lines = "".join(
            f"\x1b[32m{line:5d}\x1b[0m ok   a line of output such as a test writes\r\n" for line in range(LINES)
        )
        data = f"{lines}the end of {prefix}-{number}".encode()
        for start in range(0, len(data), 32_768):
            agent.send(data[start : start + 32_768])
        made.append(agent)
    try:
        yield made
    finally:
        for agent in made:
            agent.leave()


class Thread:
    """The processor's time of a page's main thread."""

    def __init__(self, session: CDPSession) -> None:
        self._session = session

    @classmethod
    async def of(cls, page: Page) -> Thread:
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable", {"timeDomain": "threadTicks"})
        return cls(session)

    async def ms(self) -> float:
        metrics = (await self._session.send("Performance.getMetrics"))["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration") * 1000


def at(share: float, values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def switch(server: Center, browser: Browser, _seconds: float) -> Measures:
    """From a click to the agent's last screen: of agents that are shown for the first time, and again."""
    async with agents(server, "switch", AGENTS):
        page = await signed_in(server, browser, "#/agents/switch-0")
        names = [f"switch-{number}" for number in range(AGENTS)]
        await page.locator(f'[data-agent="{names[-1]}"]').wait_for()
        await page.wait_for_function("() => window.onsembl.terminal.text().includes('the end of switch-0')")
        thread = await Thread.of(page)
        first = [await page.evaluate(SWITCH, [name, f"the end of {name}"]) for name in names[1:]]
        took: list[float] = []
        before = await thread.ms()
        for _ in range(3):
            took += [await page.evaluate(SWITCH, [name, f"the end of {name}"]) for name in names]
        spent = (await thread.ms() - before) / len(took)
        await page.close()
    return {
        "first p50 ms": statistics.median(first),
        "again p50 ms": statistics.median(took),
        "again p95 ms": at(0.95, took),
        "main thread ms": spent,
    }


async def paint(server: Center, browser: Browser, _seconds: float) -> Measures:
    """The first paint of the page over a slow network, without a cache."""
    found = [await first_paint(server, browser) for _ in range(3)]
    return {
        "first paint p50 ms": statistics.median(painted for painted, _, _ in found),
        "kB before it": max(size for _, size, _ in found) / 1000,
        "main thread ms": statistics.median(spent for _, _, spent in found),
    }


async def first_paint(server: Center, browser: Browser) -> tuple[float, float, float]:
    """When the page is painted first, in milliseconds, the bytes that have come by then, and the processor's time."""
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    page = await context.new_page()
    session = await context.new_cdp_session(page)
    thread = await Thread.of(page)
    began: list[float] = []
    received: list[tuple[float, float]] = []
    session.on("Network.requestWillBeSent", lambda event: began.append(event["timestamp"]))
    session.on(
        "Network.loadingFinished", lambda event: received.append((event["timestamp"], event["encodedDataLength"]))
    )
    await session.send("Network.enable")
    slow = {"latency": ROUND_TRIP_MS, "downloadThroughput": BYTES_PER_SECOND, "uploadThroughput": BYTES_PER_SECOND}
    await session.send("Network.emulateNetworkConditions", {"offline": False, **slow})
    await page.goto(server.url)
    await page.get_by_label("E-mail").wait_for()
    painted = await (await page.wait_for_function(PAINT)).json_value()
    spent = await thread.ms()
    await context.close()
    return painted, sum(size for finished, size in received if (finished - began[0]) * 1000 <= painted), spent


async def fleet(server: Center, browser: Browser, _seconds: float) -> Measures:
    """The frames while a list of 1,000 agents is filtered, scrolled and switched."""
    url = await asyncio.to_thread(running_database, None, server.folder)
    async with agents(server, "a-real", 2), await connect(url, autocommit=True) as conn:
        # Of another instance: this one would correct the rows of agents that are not connected to it.
        await conn.execute(
            "insert into onsembl.instances (address, heartbeat_at) values ('bench', now() + interval '1 h')"
        )
        await conn.execute(
            """insert into onsembl.agents (name, kind, labels, host, status, instance_id, connected_at)
               select 'agent-' || n, (array['claude', 'codex', 'gemini', 'shell'])[1 + n %% 4],
                   array[(array['api', 'web', 'data', 'infra'])[1 + n %% 4], 'team-' || n %% 7], 'host-' || n %% 20,
                   'online', (select id from onsembl.instances where address = 'bench'),
                   now() - make_interval(mins => n)
               from generate_series(1, %s) as n""",
            [FLEET - 2],
        )
        page = await signed_in(server, browser, "#/agents/a-real-0")
        await page.wait_for_function("() => window.onsembl.terminal.text().includes('the end of a-real-0')")
        await page.locator('[data-agent="agent-1"]').wait_for()
        thread = await Thread.of(page)
        before = await thread.ms()
        await page.evaluate(FRAMES)
        height = await page.evaluate(SCROLL)
        assert height > FLEET * 20, f"the list has {height} pixels"
        for text in ("team-3 ", "not claude ", "api "):
            await page.get_by_label("Filter agents").press_sequentially(text)
        await page.get_by_label("Filter agents").fill("")
        for name in ("agent-1", "a-real-1", "agent-10", "a-real-0"):
            await page.locator(f'[data-agent="{name}"]').click()
        frames = await page.evaluate("() => window.countedFrames()")
        spent = await thread.ms() - before
        await page.close()
        await conn.execute("delete from onsembl.agents where name like 'agent-%'")
    return {
        "frames": float(len(frames)),
        "frame p50 ms": statistics.median(frames),
        "frame p99 ms": at(0.99, frames),
        "slow frames %": 100 * sum(frame > SLOW_MS for frame in frames) / len(frames),
        "main thread ms": spent,
    }


async def wall(server: Center, browser: Browser, seconds: float) -> Measures:
    """The frames of a wall of twelve terminals, into each of which a line comes every 50 ms."""
    async with agents(server, "wall", TILES) as made:

        async def flood() -> None:
            number = 0
            while True:
                number += 1
                for agent in made:
                    agent.send(
                        f"\r\n\x1b[36m{number:06d}\x1b[0m  \x1b[32mPASS\x1b[0m test_{number}: an order is paid".encode()
                    )
                await asyncio.sleep(FLOOD_SECONDS)

        page = await signed_in(server, browser, "#/wall?layout=4x3")
        tiles = page.locator('[data-tile][data-link="attached"]')
        await tiles.nth(TILES - 1).wait_for()
        flooding = asyncio.create_task(flood())
        await page.wait_for_function("() => window.onsembl.tile('wall-0').includes('PASS')")
        thread = await Thread.of(page)
        before = await thread.ms()
        await page.evaluate(FRAMES)
        await asyncio.sleep(seconds)
        frames = await page.evaluate("() => window.countedFrames()")
        spent = await thread.ms() - before
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        await page.close()
    whole = sum(frames) / 1000
    return {
        "frames/s": len(frames) / whole,
        "frame p95 ms": at(0.95, frames),
        "main thread ms/s": spent / whole,
        "main thread ms/frame": spent / len(frames),
    }


async def keys(server: Center, browser: Browser, _seconds: float) -> Measures:
    """From a key to the frame with its echo by a program at a real agent."""
    with tempfile.TemporaryDirectory(prefix="onsembl-feel-") as name:
        folder = Path(name)
        (folder / "program.py").write_text(PROGRAM)
        async with real_agent(server, folder) as agent_id:
            await server.post(f"/v1/agents/{agent_id}/commands", {"text": f"{sys.executable} {folder}/program.py"})
            page = await signed_in(server, browser, "#/agents/real")
            await page.wait_for_function("() => window.onsembl.terminal.text().includes('ready')")
            await page.get_by_role("button", name="Type here").click()
            await page.locator('[data-control="mine"]').wait_for()
            await page.evaluate(PRESSED)
            took: list[float] = []
            letters = "abcdefghijklmnopqrstuvwxyz"
            for number in range(KEYS):
                letter = letters[number % 26]
                if letter == "a":
                    await page.keyboard.press("Enter")
                echo = asyncio.create_task(page.evaluate(ECHOED, f"<{letter}>"))
                await page.keyboard.press(letter)
                took.append(await echo)
                if letter == "z":
                    await page.keyboard.type("\x0c")
            await page.close()
    return {"p50 ms": statistics.median(took), "p95 ms": at(0.95, took)}


PARTS = {
    "switch": Part(switch, [at_most("again p95 ms", 100)]),
    "paint": Part(paint, [at_most("first paint p50 ms", 1500), at_most("kB before it", 100)]),
    "fleet": Part(fleet, [at_most("slow frames %", 1)]),
    "wall": Part(wall, [at_least("frames/s", 58)]),
    "keys": Part(keys, [at_most("p95 ms", 50)]),
}


async def measure(names: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    """The rows of the table: the figures of each part, the load meanwhile, and which targets are met."""
    rows: list[dict[str, Any]] = []
    async with center() as server, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        for name in names:
            part, load = PARTS[name], load_now()
            figures = await part.measure(server, browser, seconds)
            targets = [
                {"figure": target.figure, "target": target.text, "met": bool(target.met(figures, {}))}
                for target in part.targets
            ]
            rows.append({"part": name, "figures": figures, "load": [load, load_now()], "targets": targets})
            print_row(rows[-1])
        await browser.close()
    return rows


def print_row(row: dict[str, Any]) -> None:
    """Print one line for each figure: the part, the figure, its value, its target and the load."""
    begin, end = row["load"]
    targets = {target["figure"]: target for target in row["targets"]}
    for figure, value in row["figures"].items():
        target = targets.get(figure)
        verdict = "" if target is None else f"{target['target']}: {'yes' if target['met'] else 'no'}"
        print(f"{row['part']:<8}{figure:<22}{value:>10.1f}  {verdict:<14}  load {begin:.1f} to {end:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the wall is watched")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    rows = asyncio.run(measure(options.only, options.seconds))
    if options.json:
        machine = {"processors": os.cpu_count(), "renderer": "software"}
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
