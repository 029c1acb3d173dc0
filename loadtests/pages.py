"""The open pages of an operator: a terminal, and the state of the dashboard. Each reports missing bytes or rows."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any
from uuid import uuid4

import aiohttp
from center import Center
from clients import LoadViewer
from fleet_agents import HEADER, MAGIC, FleetAgent
from report import Report

PHOENIX_SECONDS = 25.0
"""The interval of heartbeats that Realtime expects."""
REMEMBERED = 1000
OLDEST_NS = 600_000_000_000
TERMINAL = ("terminal", "agent → viewer")
COMMAND_ROW = re.compile(r'"id":\s*"([0-9a-f-]{36})"')
COMMAND_STATE = re.compile(r'"state":\s*"(\w+)"')


class Viewer(LoadViewer):
    """A viewer that reads framed chunks, detects missing, repeated or changed ones, and measures their age."""

    def __init__(self, center: Center, agent: FleetAgent, report: Report) -> None:
        super().__init__(center.url, agent.credentials.agent_id, center.token, 1, [])
        self.agent = agent
        self._report = report
        self._found = False
        self._began = 0
        self.client_id = str(uuid4())
        self._keys: dict[int, float] = {}
        self._seq = 0
        self._types = False

    def hear(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "attached":
                self._began = time.monotonic_ns()
            case "gap":
                self._lost("it fell behind what the server keeps")
            case "stream_started":
                self._rest, self._found = b"", False
            case "controlled":
                self._types = (message["controller"] or {}).get("client_id") == self.client_id
            case "keys_taken":
                if (began := self._keys.pop(message["seq"], None)) is not None:
                    self._report.took("operator", "key → agent → page", time.monotonic() - began)
            case _:
                pass
        super().hear(message)

    def type(self) -> None:
        """Type a key; without control, request control."""
        if not self._types:
            self.say({"type": "take_control", "client_id": self.client_id})
            return
        self._seq += 1
        self._keys[self._seq] = time.monotonic()
        self.say({"type": "keys", "client_id": self.client_id, "seq": self._seq, "text": "x"})

    def renewed(self, access_token: str) -> None:
        """The operator has a new access token."""
        self.say({"type": "token", "access_token": access_token})

    def closed(self) -> None:
        super().closed()
        self._report.failed(*TERMINAL, "the server closed the connection")

    async def see_all(self, deadline: float) -> None:
        """Wait for the last byte of an agent that has stopped writing; bytes missing after that are lost."""
        while self.place != self.agent.end:
            if self.leaving or time.monotonic() > deadline:
                self._report.failed(*TERMINAL, f"it saw {self.place} bytes of {self.agent.end}")
                return
            await asyncio.sleep(0.05)

    def _lost(self, why: str) -> None:
        self._report.failed(*TERMINAL, why)
        self._rest, self._found = b"", False

    def read(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.bytes += len(data)
        self.place += len(data)
        data = self._rest + data if self._rest else data
        at = 0
        if not self._found:
            at = data.find(MAGIC)
            if at < 0:
                self._rest = data[-len(MAGIC) :]
                return
            self._found = True
        while len(data) - at >= HEADER.size:
            magic, sent, length = HEADER.unpack_from(data, at)
            if magic != MAGIC or not 0 <= now - sent < OLDEST_NS:
                self._lost("bytes are missing")
                return
            if len(data) - at < length:
                break
            if sent >= self._began:
                self._report.took(*TERMINAL, (now - sent) / 1e9)
            at += length
        self._rest = data[at:]


class Dashboard:
    """The state of commands on a page, from Realtime over a socket of its own."""

    def __init__(self, center: Center, report: Report) -> None:
        self._center = center
        self._report = report
        self._seen: dict[str, tuple[float, str]] = {}
        """The latest commands: the time of the first change, and the state."""
        self._asked: dict[str, float] = {}
        self._cancelled: dict[str, float] = {}
        self._to_run: dict[str, asyncio.Future[None]] = {}
        self._leaving = False
        self._socket: aiohttp.ClientWebSocketResponse
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Connect, and wait until the page is subscribed."""
        center = self._center
        config = await center.get("/config.json")
        address = f"{config['supabase_url'] or center.url}/realtime/v1/websocket"
        query = {"apikey": config["supabase_key"], "vsn": "2.0.0"}
        began = time.monotonic()
        self._socket = await center.http.ws_connect(address, params=query, max_msg_size=0)
        change = {"event": "*", "schema": "onsembl", "table": "commands"}
        join = {"config": {"postgres_changes": [change]}, "access_token": center.token}
        await self._say("1", "realtime:load", "phx_join", join)
        async with asyncio.timeout(30):
            await self._subscribed()
        self._report.took("operator", "subscribe", time.monotonic() - began)
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._stay())]

    async def _subscribed(self) -> None:
        """Wait for the subscription. Raises aiohttp.ClientError when it is rejected."""
        while True:
            _, _, _, event, payload = json.loads(await self._socket.receive_str())
            if event in ("system", "phx_reply") and payload["status"] != "ok":
                raise aiohttp.ClientError(f"Realtime said {payload}")
            if event == "system":
                return

    async def stop(self) -> None:
        self._leaving = True
        for task in self._tasks:
            task.cancel()
        await self._socket.close()

    async def renewed(self, access_token: str) -> None:
        """The operator has a new access token."""
        await self._say("3", "realtime:load", "access_token", {"access_token": access_token})

    async def see_all(self, deadline: float) -> None:
        """Wait for the rows of all requested commands; rows missing after that are lost."""
        for name, waiting in (("POST → row", self._asked), ("cancel → cancelled", self._cancelled)):
            while waiting and time.monotonic() < deadline:  # noqa: ASYNC110 — a bound on waiting
                await asyncio.sleep(0.05)
            for _ in waiting:
                self._report.failed("dashboard", name, "it never came")

    def asked(self, command_id: str, began: float) -> None:
        """A command was sent; expect its row."""
        if command_id in self._seen:
            self._report.took("dashboard", "POST → row", self._seen[command_id][0] - began)
        else:
            self._asked[command_id] = began

    async def until_running(self, command_id: str) -> None:
        """Wait until the row's state is running."""
        if self._seen.get(command_id, (0.0, ""))[1] != "running":
            self._to_run[command_id] = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(60):
                await self._to_run[command_id]

    def cancelling(self, command_id: str) -> None:
        self._cancelled[command_id] = time.monotonic()

    def not_cancelling(self, command_id: str) -> None:
        """The request to cancel failed."""
        self._cancelled.pop(command_id, None)

    async def _say(self, ref: str, topic: str, event: str, payload: dict[str, Any]) -> None:
        await self._socket.send_str(json.dumps([ref, ref, topic, event, payload]))

    async def _stay(self) -> None:
        while True:
            await asyncio.sleep(PHOENIX_SECONDS)
            await self._say("2", "phoenix", "heartbeat", {})

    async def _read(self) -> None:
        async for message in self._socket:
            text = message.data
            if not isinstance(text, str) or '"postgres_changes"' not in text:
                continue
            now = time.monotonic()
            found, state = COMMAND_ROW.search(text), COMMAND_STATE.search(text)
            if found is None or state is None:
                continue
            self._heard(found[1], state[1], now)
        if not self._leaving:
            self._report.failed("dashboard", "connection", f"Realtime closed it: {self._socket.close_code}")

    def _heard(self, command_id: str, state: str, now: float) -> None:
        self._seen[command_id] = (self._seen.get(command_id, (now,))[0], state)
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if (began := self._asked.pop(command_id, None)) is not None:
            self._report.took("dashboard", "POST → row", now - began)
        if state == "running" and (waiter := self._to_run.pop(command_id, None)) is not None:
            waiter.set_result(None)
        if state == "cancelled" and (began := self._cancelled.pop(command_id, None)) is not None:
            self._report.took("dashboard", "cancel → cancelled", now - began)
