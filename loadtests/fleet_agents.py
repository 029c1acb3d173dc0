"""The agents of a load: each streams a recorded terminal at its real rate, runs commands and rotates its tokens.

Like a real agent, it reconnects after a lost connection and repeats the bytes that are not acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from center import Center, Credentials
from clients import HELLO, OFFSET, LoadAgent
from picows import WSError, WSMsgType
from report import Report

MAGIC = b"\xf0onsembl"
HEADER = struct.Struct(f"<{len(MAGIC)}sQI")
"""A mark, when a chunk was sent (nanoseconds of the monotonic clock), and how long it is, this included."""
TRAFFIC: list[tuple[float, int]] = json.loads((Path(__file__).parent / "traffic.json").read_text())
"""A recorded terminal: when each chunk came, in seconds, and how long it was."""
TEXT = (Path(__file__).parent / "traffic.txt").read_bytes()
"""What is shown: a coloured diff, which is compressed, archived and searched as terminals are. Longer than a chunk."""
PAUSE_SECONDS = 1.0
"""The bytes between two repetitions."""
HISTORY_BYTES = 2 * 1024 * 1024
"""The earlier output of an agent that has run for long: as much as the server keeps in memory."""
CHUNK_BYTES = 32 * 1024
SENT = "chunks sent"
HOLD = "hold "
"""The prefix of a command that runs until it is cancelled."""
ROTATE_SECONDS = 60.0
RECONNECT_SECONDS = 2.0
"""Agents reconnect within this time, each after a random delay."""


class Everybody(Protocol):
    """The part of the fleet that an agent uses."""

    center: Center
    report: Report

    def arrived(self, text: str) -> None:
        """A command has reached its agent."""
        ...

    def went(self, agent: FleetAgent) -> None:
        """The agent has lost its connection."""
        ...

    def came_back(self, agent: FleetAgent) -> None:
        """The agent is connected again."""
        ...


class FleetAgent:
    """One agent, over its successive connections."""

    def __init__(self, fleet: Everybody, credentials: Credentials, *, history: bool) -> None:
        self.fleet = fleet
        self.credentials = credentials
        self.link: Link
        self.stream_id: str | None = None
        self.start = self.end = 0
        """Of what the server has not acknowledged."""
        self._kept: deque[bytes] = deque()
        self.running: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.known: set[str] = set()
        self._history = history
        self._place = random.randrange(len(TEXT))
        """The position in the repeated text."""
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Connect, and wait until the agent is online."""
        await self._connect()
        self._tasks = [asyncio.create_task(work) for work in (self._stream(), self._stay(), self._rotate())]

    def rest(self) -> None:
        """Stop writing."""
        self._tasks[0].cancel()

    @property
    def settled(self) -> bool:
        """Whether every byte is acknowledged."""
        return self.link.usable and not self._kept

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.link.leave()

    async def _connect(self) -> None:
        began = time.monotonic()
        self.link = Link(self)
        await self.link.connect(self.fleet.center.url, self.credentials.access_token)
        self.fleet.report.took("agent", "connect", time.monotonic() - began)

    async def _stay(self) -> None:
        while True:
            await self.link.gone
            self.fleet.went(self)
            while True:
                await asyncio.sleep(random.uniform(0, RECONNECT_SECONDS))
                try:
                    await self._connect()
                    break
                except (OSError, WSError, TimeoutError) as error:
                    self.fleet.report.failed("agent", "connect", error)
            self.fleet.came_back(self)

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(0.5, 1.0) * ROTATE_SECONDS)
            if self.link.usable:
                self.link.refresh()

    # Its terminal

    async def _stream(self) -> None:
        if self._history:
            for _ in range(HISTORY_BYTES // CHUNK_BYTES):
                self.write(CHUNK_BYTES)
                await asyncio.sleep(0.01)
        place = random.randrange(len(TRAFFIC))  # no two at the same place
        while True:
            began = time.monotonic() - TRAFFIC[place][0]
            for at, length in TRAFFIC[place:]:
                if (wait := began + at - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                self.write(max(length, HEADER.size))
            place = 0
            await asyncio.sleep(PAUSE_SECONDS)

    def write(self, size: int) -> None:
        """Write a chunk, and keep it until it is acknowledged."""
        text, place = size - HEADER.size, self._place % len(TEXT)
        self._place += text
        shown = TEXT[place : place + text]
        chunk = HEADER.pack(MAGIC, time.monotonic_ns(), size) + shown + TEXT[: text - len(shown)]
        self._kept.append(chunk)
        self.end += size
        if self.link.usable:
            self.link.output(self.end - size, chunk)
            self.fleet.report.count(SENT)

    def acknowledged(self, offset: int) -> None:
        while self._kept and self.start + len(self._kept[0]) <= offset:
            self.start += len(self._kept.popleft())

    def begin_stream(self, stream_id: str) -> None:
        """Begin a new stream with the bytes that are not acknowledged."""
        if stream_id != self.stream_id:
            self.stream_id = stream_id
            self.start, self.end = 0, self.end - self.start

    def send_from(self, offset: int) -> None:
        """Send the bytes from this offset on again."""
        place = self.start
        for chunk in list(self._kept):
            if place + len(chunk) > offset:
                skipped = max(offset - place, 0)
                self.link.output(place + skipped, chunk[skipped:])
            place += len(chunk)

    # Its commands

    def offered(self, command_id: str, text: str) -> None:
        """Accept a command once, and repeat the acceptance for each repeated offer."""
        if command_id in self.ended:
            self.link.say(self.ended[command_id])
        elif command_id in self.running:
            self.link.say(self.running[command_id])
        elif command_id not in self.known:
            self.known.add(command_id)
            self.fleet.arrived(text)
            accepted = {"type": "accepted", "command_id": command_id, "started_at": _now(), "output_start": self.end}
            self.running[command_id] = accepted
            self.link.say(accepted)
            if not text.startswith(HOLD):
                self.end_command(command_id, "succeeded")

    def end_command(self, command_id: str, outcome: str) -> None:
        about = self.running.pop(command_id, None)
        if about is not None:
            over = {"outcome": outcome, "ended_at": _now(), "output_end": self.end}
            self.ended[command_id] = {**about, "type": "ended", **over}
            self.link.say(self.ended[command_id])


class Link(LoadAgent):
    """One connection of an agent."""

    def __init__(self, agent: FleetAgent) -> None:
        super().__init__()
        self._agent = agent
        self._asked: float | None = None

    def hello(self) -> dict[str, Any]:
        agent = self._agent
        hello = {**HELLO, "running": list(agent.running.values()), "ended": list(agent.ended.values())}
        if agent.stream_id is not None:
            hello["stream"] = {"id": agent.stream_id, "start": agent.start, "end": agent.end}
        return hello

    def take(self, message: dict[str, Any]) -> None:
        agent = self._agent
        match message["type"]:
            case "welcome":
                agent.begin_stream(message["stream_id"])
                agent.send_from(message["resume_offset"])
            case "acknowledged":
                agent.acknowledged(message["offset"])
            case "resend":
                agent.send_from(message["offset"])
            case "offer":
                agent.offered(message["command_id"], message["text"])
                return
            case "cancel":
                agent.end_command(message["command_id"], "cancelled")
            case "end_recorded":
                agent.ended.pop(message["command_id"], None)
            case "keys":
                self.say({"type": "keys_taken", "client_id": message["client_id"], "seq": message["seq"]})
            case "tokens":
                self._rotated(message)
            case _:
                pass
        super().take(message)

    @property
    def usable(self) -> bool:
        """Whether the connection is welcomed and not broken."""
        return self.welcomed.done() and not self.gone.done()

    def output(self, offset: int, data: bytes) -> None:
        self._transport.send(WSMsgType.BINARY, OFFSET.pack(offset) + data)

    def refresh(self) -> None:
        """Request new tokens."""
        self._asked = time.monotonic()
        self.say({"type": "refresh", "refresh_token": self._agent.credentials.refresh_token})

    def _rotated(self, message: dict[str, Any]) -> None:
        assert self._asked is not None
        self._agent.fleet.report.took("agent", "rotate tokens", time.monotonic() - self._asked)
        agent_id = self._agent.credentials.agent_id
        self._agent.credentials = Credentials(agent_id, message["access_token"], message["refresh_token"])


def _now() -> str:
    return datetime.now(UTC).isoformat()
