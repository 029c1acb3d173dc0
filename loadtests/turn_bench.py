"""Measure a turn of a coding CLI: from its event to the viewer's terminal, and from acceptance to its process.

    python loadtests/turn_bench.py [--turns 50] [--json FILE]

A real agent of kind `claude` runs a program in the place of Claude Code, which speaks its protocol: each event carries
the time at which it was written, on the clock that all processes of the machine share. The time runs to the frame with
which a viewer gets it. The target is 20 ms at p99. The first event of a turn is counted apart: its process has just
started. A command is accepted when the agent says so; its process runs with its first instruction.
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
from datetime import datetime
from pathlib import Path
from typing import Any

import uvloop
from center import Center, center
from real_agent import real_agent
from websockets.asyncio.client import ClientConnection, connect

from onsembl.protocol.messages import TERMINAL_SUBPROTOCOL
from onsembl.protocol.states import FINAL_STATES, AgentKind

EVENTS = 10
"""How many events a turn has."""
START = """#!/bin/bash
started=$EPOCHREALTIME exec {python} -S -E {program}
"""
PROGRAM = f"""
import json, os, sys, time
def tell(**line):
    sys.stdout.write(json.dumps(line) + "\\n")
    sys.stdout.flush()
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "user":
        break
    tell(type="control_response", response={{"subtype": "success", "request_id": message["request_id"]}})
with open(os.environ["STARTS"], "a") as file:
    file.write(os.environ["started"] + "\\n")
for number in range({EVENTS}):
    text = f"<<{{number}}:{{time.perf_counter()!r}}>> "
    event = {{"type": "content_block_delta", "index": 0, "delta": {{"type": "text_delta", "text": text}}}}
    tell(type="stream_event", event=event, parent_tool_use_id=None)
    time.sleep(0.02)
tell(type="result", subtype="success", is_error=False, num_turns=1, duration_ms=1, result="")
sys.stdin.read()
"""
_EVENT = re.compile(rb"<<(\d+):([\d.]+)>>")


class Watcher:
    """A viewer: `delays` has the number of each event in its turn, and its seconds; `complete` is set at `count`."""

    def __init__(self, socket: ClientConnection, count: int) -> None:
        self._socket = socket
        self._count = count
        self.delays: list[tuple[int, float]] = []
        self.complete = asyncio.Event()

    async def read(self) -> None:
        """Read frames until cancelled."""
        rest = b""
        async for frame in self._socket:
            if isinstance(frame, bytes):
                now = time.perf_counter()
                rest += re.sub(rb"\s", b"", frame)  # a line may be wrapped within an event
                end = 0
                for event in _EVENT.finditer(rest):
                    self.delays.append((int(event[1]), now - float(event[2])))
                    end = event.end()
                rest = rest[end:][-64:]
                if len(self.delays) >= self._count:
                    self.complete.set()
            elif json.loads(frame)["type"] == "ping":
                await self._socket.send('{"type": "pong"}')


async def turns(count: int = 50) -> dict[str, float]:
    """Milliseconds, of this number of turns."""
    with tempfile.TemporaryDirectory(prefix="onsembl-turns-") as name:
        folder = Path(name)
        (folder / "program.py").write_text(PROGRAM)
        (folder / "bin").mkdir()
        program = folder / "bin" / "claude"
        program.write_text(START.format(python=sys.executable, program=folder / "program.py"))
        program.chmod(0o755)
        environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "STARTS": str(folder / "starts")}
        async with center() as server, real_agent(server, folder, AgentKind.CLAUDE, environment) as agent_id:
            address = server.url.replace("http", "ws", 1) + f"/v1/agents/{agent_id}/terminal"
            async with connect(
                address,
                subprotocols=[TERMINAL_SUBPROTOCOL],  # type: ignore[list-item]
                compression=None,
                max_size=None,
            ) as socket:
                await socket.send(json.dumps({"type": "attach", "access_token": server.token, "client_id": None}))
                watcher = Watcher(socket, count * EVENTS)
                reading = asyncio.create_task(watcher.read())
                accepted = [await _turn(server, agent_id) for _ in range(count)]
                async with asyncio.timeout(30):
                    await watcher.complete.wait()
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        began = [float(line) for line in (folder / "starts").read_text().split()]
    first = sorted(delay for number, delay in watcher.delays if number == 0)
    later = sorted(delay for number, delay in watcher.delays if number > 0)
    starts = sorted(begin - accept for begin, accept in zip(began, accepted, strict=True))
    return {
        "first event p50 ms": at(first, 0.5),
        "first event p99 ms": at(first, 0.99),
        "later events p50 ms": at(later, 0.5),
        "later events p99 ms": at(later, 0.99),
        "accepted → started p50 ms": at(starts, 0.5),
        "accepted → started p99 ms": at(starts, 0.99),
    }


def at(values: list[float], share: float) -> float:
    """The value in sorted seconds that this share does not exceed, in milliseconds."""
    return values[min(len(values) - 1, int(len(values) * share))] * 1e3


async def _turn(server: Center, agent_id: str) -> float:
    """Run a command to its end; return when the agent accepted it, in Unix time. Raises TimeoutError."""
    command: dict[str, Any] = await server.post(f"/v1/agents/{agent_id}/commands", {"text": "a prompt"})
    async with asyncio.timeout(60):
        while command["state"] not in FINAL_STATES:
            await asyncio.sleep(0.02)
            command = await server.get(f"/v1/commands/{command['id']}")
    if command["state"] != "succeeded":
        raise RuntimeError(f"a turn {command['state']}: {command['error']}")
    return datetime.fromisoformat(command["started_at"]).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    result = uvloop.run(turns(options.turns))
    print("a turn: " + ", ".join(f"{name} {value:.1f}" for name, value in result.items()))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
