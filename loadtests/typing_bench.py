"""Measure the time from a key to its echo on the page.

    python loadtests/typing_bench.py [--keys 200] [--json FILE]

A real agent runs a program that echoes each key, once alone and once while it also writes as fast as it can. The time
runs from the frame with the key to the frame with its echo. The target is 50 ms at p99 during the flood.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvloop
from center import center
from real_agent import real_agent
from websockets.asyncio.client import ClientConnection, connect

from onsembl.protocol.messages import TERMINAL_SUBPROTOCOL

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


class Typist:
    """A page that types, and records the time of each echo."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._client = str(uuid4())
        self._seq = 0
        self._rest = b""
        self._waiting: dict[bytes, asyncio.Future[float]] = {}

    async def begin(self, token: str) -> None:
        """Attach, and take control."""
        await self._say("attach", access_token=token, client_id=self._client)
        await self._say("take_control", client_id=self._client)

    async def _say(self, kind: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    def expect(self, answer: bytes) -> asyncio.Future[float]:
        """A future with the time of arrival."""
        self._waiting[answer] = asyncio.get_running_loop().create_future()
        return self._waiting[answer]

    async def key(self, number: int) -> float:
        """Type a key; return the seconds until its echo."""
        text = f"{number:05d}"
        answer = self.expect(text.encode())
        self._seq += 1
        began = time.perf_counter()
        await self._say("keys", client_id=self._client, seq=self._seq, text=text + ";")
        async with asyncio.timeout(30):
            return await answer - began

    async def read(self) -> None:
        """Read frames until cancelled."""
        async for frame in self._socket:
            if isinstance(frame, bytes):
                data = self._rest + frame
                for answer in [known for known in self._waiting if b"<<" + known + b">>" in data]:
                    self._waiting.pop(answer).set_result(time.perf_counter())
                self._rest = data[-16:]
            elif json.loads(frame)["type"] == "ping":
                await self._say("pong")


async def keys(count: int, how: str) -> dict[str, float]:
    """Milliseconds from a key to its echo."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=200, help="number of keys")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    result = {
        "key → echo": uvloop.run(keys(options.keys, "peace")),
        "key → echo under a flood": uvloop.run(keys(options.keys, "flood")),
    }
    for what, measures in result.items():
        print(f"{what:<26} {', '.join(f'{name} {value:.2f}' for name, value in measures.items())}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
