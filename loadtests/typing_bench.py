"""How soon a key's echo is on the page, and what one viewer that is stuck costs the others.

    python loadtests/typing_bench.py [--keys 200] [--json FILE]

Keys: a real agent runs a program that answers each key, once in peace and once while it also writes as fast as it can;
from the key's frame to the frame with its answer. The target is 50 ms at p99 under the flood.

Stuck: fifty viewers of one agent, then one of them reads no more while 100 chunks of 4 KiB a second come. The others'
p99 should not double, and the server's memory should not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvloop
from center import ONSEMBL, Center, center
from clients import STAMP, LoadAgent, LoadViewer
from websockets.asyncio.client import ClientConnection, connect

from onsembl.agent import credentials as store
from onsembl.agent.enrolment import enrol
from onsembl.protocol.messages import TERMINAL_SUBPROTOCOL
from onsembl.protocol.states import AgentKind

PROGRAM = """
import os, sys, threading, tty
tty.setraw(0)
os.write(1, b"ready<<>>")
line = (b"%03d " * 20 % tuple(range(20))) + b"\\r\\n"
def flood():
    while True:
        os.write(1, line * 10)
if sys.argv[1] == "flood":
    threading.Thread(target=flood, daemon=True).start()
known = b""
while True:
    known += os.read(0, 4096)
    *whole, known = known.split(b";")
    for key in whole:
        os.write(1, b"<<" + key + b">>")
"""
PACE_SECONDS = 0.05
VIEWERS = 50
CHUNK_BYTES = 4096
CHUNKS_A_SECOND = 100
STUCK_SECONDS = 10.0


@asynccontextmanager
async def real_agent(server: Center, folder: Path) -> AsyncGenerator[str]:
    """An `onsembl agent run`; its id."""
    token = (await server.post("/v1/enrolment-tokens", {"name_pattern": "*"}))["token"]
    credentials = await enrol(server.url, token, "typed", AgentKind.SHELL)
    store.save(folder / "agents" / "typed", credentials)
    where = ("--state-dir", str(folder / "agents"), "--cwd", str(folder))
    process = await asyncio.create_subprocess_exec(*ONSEMBL, "agent", "run", "--name", "typed", *where)
    try:
        yield credentials.agent_id
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


class Typist:
    """A page that types, and notes when each answer is there."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._client = str(uuid4())
        self._seq = 0
        self._rest = b""
        self._waiting: dict[bytes, asyncio.Future[float]] = {}

    async def begin(self, token: str) -> None:
        """Attached, and in control."""
        await self._say("attach", access_token=token, client_id=self._client)
        await self._say("take_control", client_id=self._client)

    async def _say(self, kind: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    def expect(self, answer: bytes) -> asyncio.Future[float]:
        """Done with the time at which it comes."""
        self._waiting[answer] = asyncio.get_running_loop().create_future()
        return self._waiting[answer]

    async def key(self, number: int) -> float:
        """Seconds until its answer."""
        text = f"{number:05d}"
        answer = self.expect(text.encode())
        self._seq += 1
        began = time.perf_counter()
        await self._say("keys", client_id=self._client, seq=self._seq, text=text + ";")
        async with asyncio.timeout(30):
            return await answer - began

    async def read(self) -> None:
        """Until cancelled."""
        async for frame in self._socket:
            if isinstance(frame, bytes):
                data = self._rest + frame
                for answer in [known for known in self._waiting if b"<<" + known + b">>" in data]:
                    self._waiting.pop(answer).set_result(time.perf_counter())
                self._rest = data[-16:]
            elif json.loads(frame)["type"] == "ping":
                await self._say("pong")


async def keys(count: int, how: str) -> dict[str, float]:
    """Milliseconds from key to echo."""
    async with center() as server:
        with tempfile.TemporaryDirectory(prefix="onsembl-keys-") as name:
            folder = Path(name)
            (folder / "program.py").write_text(PROGRAM)
            address = server.url.replace("http", "ws", 1) + "/v1/agents/{}/terminal"
            async with (
                real_agent(server, folder) as agent_id,
                connect(
                    address.format(agent_id),
                    subprotocols=[TERMINAL_SUBPROTOCOL],  # type: ignore[list-item]
                    compression=None,
                    max_size=None,
                ) as socket,
            ):
                typist = Typist(socket)
                await typist.begin(server.token)
                reading = asyncio.create_task(typist.read())
                ready = typist.expect(b"")
                text = f"{sys.executable} {folder}/program.py {how}"
                command = await server.post(f"/v1/agents/{agent_id}/commands", {"text": text})
                async with asyncio.timeout(30):
                    await ready
                await asyncio.sleep(1.0)
                taken: list[float] = []
                for number in range(count):
                    taken.append(await typist.key(number))
                    await asyncio.sleep(PACE_SECONDS)
                await server.post(f"/v1/commands/{command['id']}/cancel", {})
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
    taken.sort()
    return {"p50 ms": taken[count // 2] * 1e3, "p99 ms": taken[int(count * 0.99)] * 1e3}


async def stuck() -> dict[str, float]:
    """The others' latency before and while one is stuck, in milliseconds, and the growth of the server, in MiB."""
    async with center() as server:
        credentials = await server.enrol("watched")
        agent = LoadAgent()
        await agent.connect(server.url, credentials.access_token)
        latencies: list[int] = []
        viewers: list[LoadViewer] = []
        for _ in range(VIEWERS):
            viewer = LoadViewer(server.url, credentials.agent_id, server.token, CHUNK_BYTES, latencies)
            await viewer.connect()
            viewers.append(viewer)
        await _stream(agent, 3.0)
        latencies.clear()
        await _stream(agent, STUCK_SECONDS)
        before, memory = _p99(latencies), server.rss()
        viewers[0].be_stuck()
        await _stream(agent, 1.0)
        latencies.clear()
        await _stream(agent, STUCK_SECONDS)
        during, growth = _p99(latencies), (server.rss() - memory) / 2**20
        gaps = sum(viewer.gaps for viewer in viewers[1:])
        for client in (agent, *viewers):
            client.leave()
    return {"p99 ms before": before, "p99 ms": during, "growth MiB": growth, "gaps of the others": float(gaps)}


async def _stream(agent: LoadAgent, seconds: float) -> None:
    pad = b"x" * (CHUNK_BYTES - STAMP.size)
    began = time.monotonic()
    for number in range(int(seconds * CHUNKS_A_SECOND)):
        await asyncio.sleep(max(0.0, began + number / CHUNKS_A_SECOND - time.monotonic()))
        agent.send_stamped(pad)
    await asyncio.sleep(0.2)


def _p99(latencies: list[int]) -> float:
    return sorted(latencies)[int(len(latencies) * 0.99)] / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=200, help="how many")
    parser.add_argument("--json", type=Path, help="write the result there, too")
    options = parser.parse_args()
    result = {
        "key → echo": uvloop.run(keys(options.keys, "peace")),
        "key → echo under a flood": uvloop.run(keys(options.keys, "flood")),
        "one of fifty stuck": uvloop.run(stuck()),
    }
    for what, figures in result.items():
        print(f"{what:<26} {', '.join(f'{name} {value:.2f}' for name, value in figures.items())}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
