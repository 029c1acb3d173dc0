"""Measure a turn of very many steps: the server's memory, and how long they take to be stored and to be read.

    python loadtests/steps_bench.py [--steps 10000] [--json FILE]

A real agent of kind `claude` runs a program in the place of Claude Code: 200 subagents, each call with a result of
4 kB, one result of 5 MB. Meanwhile an operator follows the steps as the page does, by pages of 500. Then `onsembl
commands trace` prints them all. The page itself is measured by `tests/browser/test_long_turns.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from center import ONSEMBL, Center, center
from real_agent import real_agent

from onsembl.protocol.states import FINAL_STATES, AgentKind

SUBAGENTS = 200
PAGE = 500
POLL_SECONDS = 0.25
"""The page reads the steps that have changed at most four times a second."""
PROGRAM = f"""#!{sys.executable} -SE
import json, os, sys
def tell(**line):
    sys.stdout.write(json.dumps(line) + "\\n")
    sys.stdout.flush()
def call(name, identity, parent):
    block = {{"type": "tool_use", "id": identity, "name": name, "input": {{"command": "echo " + identity}}}}
    tell(type="assistant", parent_tool_use_id=parent, message={{"content": [block]}})
def result(identity, text, parent):
    block = {{"type": "tool_result", "tool_use_id": identity, "content": text}}
    tell(type="user", parent_tool_use_id=parent, message={{"content": [block]}})
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "user":
        break
    tell(type="control_response", response={{"subtype": "success", "request_id": message["request_id"]}})
for number in range({SUBAGENTS}):
    call("Agent", f"agent{{number}}", None)
for number in range(int(os.environ["STEPS"]) - {SUBAGENTS} - 2):
    call("Bash", f"call{{number}}", f"agent{{number % {SUBAGENTS}}}")
    result(f"call{{number}}", "a result " * 450, f"agent{{number % {SUBAGENTS}}}")
call("Bash", "huge", None)
result("huge", "y" * 5 * 2**20, None)
for number in range({SUBAGENTS}):
    result(f"agent{{number}}", "done", None)
tell(type="result", subtype="success", is_error=False, num_turns=1, duration_ms=1, result="")
sys.stdin.read()
"""


async def long_turn(steps: int = 10_000) -> dict[str, float]:
    """Seconds and MiB of a turn of so many steps. Raises RuntimeError if one is missing."""
    with tempfile.TemporaryDirectory(prefix="onsembl-steps-") as name:
        folder = Path(name)
        program = folder / "bin" / "claude"
        program.parent.mkdir()
        program.write_text(PROGRAM)
        program.chmod(0o755)
        environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "STEPS": str(steps)}
        async with center() as server, real_agent(server, folder, AgentKind.CLAUDE, environment) as agent_id:
            warm = server.rss()
            highest = warm
            began = time.perf_counter()
            command: dict[str, Any] = await server.post(f"/v1/agents/{agent_id}/commands", {"text": "a prompt"})
            path = f"/v1/commands/{command['id']}"
            after, known, slowest = 0, set[int](), 0.0
            async with asyncio.timeout(300):
                while len(known) < steps or command["state"] not in FINAL_STATES:
                    asked = time.perf_counter()
                    page = await server.get(f"{path}/steps?after={after}&limit={PAGE}")
                    slowest = max(slowest, time.perf_counter() - asked)
                    known.update(step["number"] for step in page["steps"])
                    after = max([after, *(step["changed"] for step in page["steps"])])
                    highest = max(highest, server.rss())
                    if page["next_after"] is None:
                        await asyncio.sleep(POLL_SECONDS)
                        command = await server.get(path)
            stored = time.perf_counter() - began
            if len(known) != steps:
                raise RuntimeError(f"{len(known)} steps instead of {steps}")
            traced, memory = await asyncio.to_thread(_trace, server, command["id"], steps)
    return {
        "stored and read s": stored,
        "slowest page of steps ms": slowest * 1e3,
        "server's growth MiB": (highest - warm) / 2**20,
        "trace s": traced,
        "trace MiB": memory,
    }


def _trace(server: Center, command_id: str, steps: int) -> tuple[float, float]:
    """Print the steps by the command line; how long it takes, and its memory."""
    began = time.perf_counter()
    command = [*ONSEMBL, "commands", "trace", command_id, "--server", server.url]
    environment = {**os.environ, "ONSEMBL_TOKEN": server.token}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        lines = sum(1 for _ in process.stdout)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or lines != steps:
        raise RuntimeError(f"{lines} lines, exit code {process.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    result = uvloop.run(long_turn(options.steps))
    print("a long turn: " + ", ".join(f"{name} {value:.1f}" for name, value in result.items()))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
