"""Measure a request for a person: from the CLI that asks to a subscriber, and from the answer to the CLI.

    python loadtests/attention_bench.py [--requests 100] [--json FILE]

A real agent of kind `claude` runs a program in the place of Claude Code, which asks for one permission after the other.
Each request carries the time at which it was written, on the clock that all processes of the machine share. The time
runs to the row's frame at a subscriber of Realtime, as the page is one. The subscriber answers over REST at once; the
time runs from before its request to the moment at which the program reads the answer. The target is 100 ms at p99 each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from center import Center, center
from real_agent import real_agent
from turn_bench import at
from websockets.asyncio.client import ClientConnection, connect

from onsembl.protocol.states import AgentKind

PROGRAM = """#!{python} -SE
import json, os, sys, time
def tell(**line):
    sys.stdout.write(json.dumps(line) + "\\n")
    sys.stdout.flush()
def ask(number):
    arguments = {{"command": f"echo <{{number}}:{{time.perf_counter()!r}}>"}}
    call = {{"type": "tool_use", "id": f"call-{{number}}", "name": "Bash", "input": arguments}}
    tell(type="assistant", parent_tool_use_id=None, message={{"id": f"m-{{number}}", "content": [call]}})
    request = {{"subtype": "can_use_tool", "tool_name": "Bash", "tool_use_id": call["id"], "input": arguments}}
    tell(type="control_request", request_id=str(number), request=request)
for text in sys.stdin:
    read, line = time.perf_counter(), json.loads(text)
    if line["type"] == "user":
        ask(1)
    elif line["type"] == "control_request":
        done = {{"subtype": "success", "request_id": line["request_id"], "response": {{}}}}
        tell(type="control_response", response=done)
    elif line["type"] == "control_response":
        number = int(line["response"]["request_id"])
        with open(os.environ["ANSWERS"], "a") as file:
            file.write(f"{{number}} {{read!r}}\\n")
        result = [{{"type": "tool_result", "tool_use_id": f"call-{{number}}", "content": "done"}}]
        tell(type="user", parent_tool_use_id=None, message={{"content": result}})
        if number < {count}:
            ask(number + 1)
        else:
            tell(type="result", subtype="success", is_error=False, num_turns=1, duration_ms=1, result="")
"""
_ASKED = re.compile(r"<(\d+):([\d.]+)>")


async def requests(count: int = 100) -> dict[str, float]:
    """Milliseconds, of this number of requests."""
    with tempfile.TemporaryDirectory(prefix="onsembl-requests-") as name:
        folder = Path(name)
        (folder / "bin").mkdir()
        program = folder / "bin" / "claude"
        program.write_text(PROGRAM.format(python=sys.executable, count=count))
        program.chmod(0o755)
        answers = folder / "answers"
        environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "ANSWERS": str(answers)}
        async with center() as server, real_agent(server, folder, AgentKind.CLAUDE, environment) as agent_id:
            key = (await server.get("/config.json"))["supabase_key"]
            address = f"{server.url.replace('http', 'ws', 1)}/realtime/v1/websocket?apikey={key}&vsn=2.0.0"
            async with connect(address, compression=None, max_size=None) as socket, asyncio.timeout(300):
                await _subscribe(socket, server.token)
                command = await server.post(f"/v1/agents/{agent_id}/commands", {"text": "a prompt"})
                shown, answered = await _answer_all(server, socket, count)
                while command["ended_at"] is None:
                    await asyncio.sleep(0.05)
                    command = await server.get(f"/v1/commands/{command['id']}")
        read = {int(number): float(at) for number, at in map(str.split, answers.read_text().splitlines())}
    given = sorted(read[number] - sent for number, sent in answered.items())
    return {
        "asked → row p50 ms": at(shown, 0.5),
        "asked → row p99 ms": at(shown, 0.99),
        "answer → CLI p50 ms": at(given, 0.5),
        "answer → CLI p99 ms": at(given, 0.99),
    }


async def _subscribe(socket: ClientConnection, token: str) -> None:
    binding = {"event": "*", "schema": "onsembl", "table": "attention"}
    payload = {"config": {"postgres_changes": [binding]}, "access_token": token}
    await socket.send(json.dumps(["1", "1", "realtime:bench", "phx_join", payload]))
    while (frame := json.loads(await socket.recv()))[3] != "system":
        pass
    if frame[4]["status"] != "ok":
        raise RuntimeError(f"no subscription: {frame}")


async def _answer_all(server: Center, socket: ClientConnection, count: int) -> tuple[list[float], dict[int, float]]:
    """Answer each request as its row arrives. Return in how many seconds the rows came, sorted, and when each request
    was answered, by number."""
    shown: list[float] = []
    answered: dict[int, float] = {}
    while len(answered) < count:
        frame = json.loads(await socket.recv())
        now = time.perf_counter()
        row: dict[str, Any] = frame[4].get("data", {}).get("record", {})
        if row.get("state") != "open" or (asked := _ASKED.search(row["title"])) is None:
            continue
        shown.append(now - float(asked[2]))
        answered[int(asked[1])] = time.perf_counter()
        body = {"digest": row["digest"], "decision": {"decision": "allow"}}
        await server.post(f"/v1/attention/{row['id']}/answer", body)
    return sorted(shown), answered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    result = uvloop.run(requests(options.requests))
    print("a request: " + ", ".join(f"{name} {value:.1f}" for name, value in result.items()))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
