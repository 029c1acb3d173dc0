"""Measure the time from a click on a report until it is on the screen, in a real browser.

    python loadtests/report_bench.py [--findings 200] [--clicks 10] [--json FILE]

A real agent of kind `claude` runs a program in the place of Claude Code, which answers with a report of this many
findings, each with an excerpt. The time runs from the click in the list until the frame after the one in which the last
finding is in the document. The target is 300 ms for 200 findings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop
from center import Center, center
from playwright.async_api import async_playwright
from real_agent import real_agent
from scrollback_bench import ARGUMENTS, BROWSERS

from onsembl.protocol.states import AgentKind

EXCERPT = "def put(key: str, value: bytes) -> None:\n    cache[key] = value  # never removed\n"
PROGRAM = """#!{python} -SE
import json, sys
def tell(**line):
    sys.stdout.write(json.dumps(line) + "\\n")
    sys.stdout.flush()
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "user":
        break
    tell(type="control_response", response={{"subtype": "success", "request_id": message["request_id"]}})
report = {report!r}
tell(type="assistant", parent_tool_use_id=None, message={{"id": "m", "content": [{{"type": "text", "text": report}}]}})
tell(type="result", subtype="success", is_error=False, num_turns=1, duration_ms=1, result=report)
sys.stdin.read()
"""
CLICK = """
async (findings) => {
  const began = performance.now();
  document.querySelector('table[aria-label="Reports"] a').click();
  while (document.querySelectorAll('ol[aria-label="Findings"] > li').length < findings) {
    await new Promise(requestAnimationFrame);
  }
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}
"""


def report(findings: int) -> dict[str, Any]:
    """A report with this many findings."""
    evidence = {"file": "src/cache.py", "line": 12, "excerpt": EXCERPT, "note": "The only use."}
    finding = {"severity": "high", "description": "`put` has no **counterpart**.", "evidence": [evidence]}
    return {
        "title": "The cache is never cleared",
        "summary": "It grows by one entry a request.",
        "findings": [{"title": f"No entry is ever removed ({number})", **finding} for number in range(findings)],
        "recommendations": [],
    }


async def opened(findings: int = 200, clicks: int = 10) -> dict[str, float]:
    """Milliseconds, of this number of clicks."""
    with tempfile.TemporaryDirectory(prefix="onsembl-reports-") as name:
        folder = Path(name)
        (folder / "bin").mkdir()
        program = folder / "bin" / "claude"
        program.write_text(PROGRAM.format(python=sys.executable, report=json.dumps(report(findings))))
        program.chmod(0o755)
        environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        async with center() as server, real_agent(server, folder, AgentKind.CLAUDE, environment) as agent_id:
            body = {"preset": "Investigate", "values": {"what": "it is slow"}}
            await server.post(f"/v1/agents/{agent_id}/commands", body)
            async with asyncio.timeout(60):
                while not (await server.get("/v1/reports"))["reports"]:  # noqa: ASYNC110 — it ends by polling
                    await asyncio.sleep(0.1)
            return await _click(server, findings, clicks)


async def _click(server: Center, findings: int, clicks: int) -> dict[str, float]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)  # without one, Playwright starts its own
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.goto(f"{server.url}/#/reports")
        await page.get_by_label("E-mail").fill(server.email)
        await page.get_by_label("Password").fill(server.password)
        await page.get_by_role("button", name="Sign in").click()
        took: list[float] = []
        for _ in range(clicks + 1):
            await page.locator('table[aria-label="Reports"] a').wait_for()
            took.append(await page.evaluate(CLICK, findings))
            await page.evaluate("location.hash = '#/reports'")
        await browser.close()
    first, rest = took[0], took[1:]
    return {"first ms": round(first), "median ms": round(statistics.median(rest)), "slowest ms": round(max(rest))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--findings", type=int, default=200)
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    result = uvloop.run(opened(options.findings, options.clicks))
    for name, value in result.items():
        print(f"{name:>11}  {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
