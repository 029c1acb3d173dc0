"""Agents and viewers that follow when an instance stops. Each reconnects as the agent's program and the page do: at
once when it is told to move, else after a short random delay."""

from __future__ import annotations

import asyncio
import json
import random
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
from support.asking_agents import RUN
from support.frames import HELLO, next_message
from support.server import Enrolled
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from onsembl.protocol.attention_messages import digest_of
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.drain import DRAINING_PROBLEM
from onsembl.protocol.messages import AGENT_SUBPROTOCOL, TERMINAL_SUBPROTOCOL, encode_output


class Follower(ABC):
    """A client that stays connected until it leaves. `longest_pause` is its longest time without what it waits for."""

    def __init__(self) -> None:
        self.longest_pause = 0.0
        self.closes: list[int] = []
        """The close codes of its connections."""
        self._last = time.monotonic()
        self._task = asyncio.create_task(self._stay())

    @abstractmethod
    async def _serve(self) -> None:
        """Stay until the connection ends."""

    async def _stay(self) -> None:
        while True:
            try:
                await self._serve()
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd is not None else 0
                self.closes.append(code)
                if code in (CloseCode.DRAINING, CloseCode.ELSEWHERE):
                    continue
            except InvalidStatus as answer:
                if DRAINING_PROBLEM.encode() in (answer.response.body or b""):
                    await asyncio.sleep(0.01)
                    continue
            except (OSError, TimeoutError, WebSocketException):
                pass
            await asyncio.sleep(random.uniform(0.05, 0.3))

    def watch(self) -> None:
        """Measure pauses from now on."""
        self.longest_pause, self._last = 0.0, time.monotonic()

    def progress(self) -> None:
        """Note that something has come."""
        now = time.monotonic()
        self.longest_pause, self._last = max(self.longest_pause, now - self._last), now

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class MovingAgent(Follower):
    """An agent that writes, asks in each command, and ends the command with the answer. `output` is all that it has
    written, `accepted` its commands in order."""

    def __init__(self, url: str, enrolled: Enrolled) -> None:
        self._url, self.enrolled = url, enrolled
        self.output = bytearray()
        self.stream_id: str | None = None
        self.accepted: list[str] = []
        self.answers: list[str] = []
        """The requests whose answers came, each once."""
        self._running: dict | None = None
        self._asked: dict | None = None
        self._ended: dict[str, dict] = {}
        self._start = self._sent = 0
        self._socket: ClientConnection | None = None
        self.online = asyncio.Event()
        super().__init__()

    async def write(self, data: bytes) -> None:
        """Write output; without a connection it waits for the next one."""
        self.output += data
        await self._send_output()

    async def _send_output(self) -> None:
        socket, offset = self._socket, self._sent
        data = bytes(self.output[offset:])
        if socket is not None and data:
            self._sent += len(data)
            with suppress(ConnectionClosed):
                await socket.send(encode_output(offset, data))

    async def _serve(self) -> None:
        async with connect(
            self._url.replace("http", "ws", 1) + f"/v1/agents/{self.enrolled.id}/connection",
            additional_headers={"Authorization": f"Bearer {self.enrolled.access_token}"},
            subprotocols=[AGENT_SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            ping_interval=None,
            close_timeout=1,
        ) as socket:
            try:
                await self._greet(socket)
                while True:
                    await self._take(socket, json.loads(await socket.recv()))
            finally:
                self._socket = None
                self.online.clear()

    async def _greet(self, socket: ClientConnection) -> None:
        tail = None
        if self.stream_id is not None:
            tail = {"id": self.stream_id, "start": self._start, "end": len(self.output)}
        running = [self._running] if self._running is not None else []
        hello = {**HELLO, "kind": "claude", "takes_answers": True, "stream": tail}
        await socket.send(json.dumps({**hello, "running": running, "ended": list(self._ended.values())}))
        welcome = await next_message(socket, "welcome")
        assert self.stream_id in (None, welcome["stream_id"]), "the agent lost its stream"
        self.stream_id, self._sent, self._socket = welcome["stream_id"], welcome["resume_offset"], socket
        asked = [self._asked["request_id"]] if self._asked is not None else []
        await socket.send(json.dumps({"type": "open_requests", "requests": asked}))
        if self._asked is not None:
            await socket.send(json.dumps(self._asked))
        self.progress()
        self.online.set()
        await self._send_output()

    async def _take(self, socket: ClientConnection, message: dict) -> None:
        match message["type"]:
            case "acknowledged":
                self._start = max(self._start, message["offset"])
            case "resend":
                self._sent = message["offset"]
                await self._send_output()
            case "offer":
                await self._begin(socket, message["command_id"])
            case "answer":
                await self._end(socket, message)
            case "end_recorded":
                self._ended.pop(message["command_id"], None)
            case "ping":
                await socket.send('{"type":"pong"}')
            case _:
                pass

    async def _begin(self, socket: ClientConnection, command_id: str) -> None:
        if self._running is None and command_id not in self.accepted:
            self.accepted.append(command_id)
            about = {"command_id": command_id, "started_at": _now(), "output_start": len(self.output)}
            self._running = about
            self._asked = {
                "type": "asked",
                "request_id": str(uuid4()),
                "command_id": command_id,
                "title": "npm test",
                "body": msgspec.to_builtins(RUN),
                "digest": digest_of(RUN),
                "asked_at": _now(),
            }
            await socket.send(json.dumps({"type": "accepted", **about}))
            await socket.send(json.dumps(self._asked))
        elif self._running is not None and self._running["command_id"] == command_id:
            await socket.send(json.dumps({"type": "accepted", **self._running}))
        elif command_id in self._ended:
            await socket.send(json.dumps(self._ended[command_id]))

    async def _end(self, socket: ClientConnection, answer: dict) -> None:
        taken = {"type": "answer_taken", "request_id": answer["request_id"], "digest": answer["digest"]}
        if self._asked is None or self._asked["request_id"] != answer["request_id"]:
            await socket.send(json.dumps({**taken, "fate": "given"}))
            return
        assert self._running is not None
        self.answers.append(answer["request_id"])
        command, self._running, self._asked = self._running, None, None
        about = {"outcome": "succeeded", "ended_at": _now(), "output_end": len(self.output)}
        self._ended[command["command_id"]] = {**command, "type": "ended", **about}
        await socket.send(json.dumps({**taken, "fate": "given"}))
        await socket.send(json.dumps(self._ended[command["command_id"]]))


class FollowingViewer(Follower):
    """A viewer of one agent's terminal. `seen` are the bytes from `start` on; `faults` the messages upon which it lost
    its place."""

    def __init__(self, url: str, agent_id: str, token: str) -> None:
        self._url = url.replace("http", "ws", 1) + f"/v1/agents/{agent_id}/terminal"
        self._token = token
        self.agent_id = agent_id
        self.stream_id: str | None = None
        self.start = 0
        self.seen = bytearray()
        self.faults: list[dict] = []
        self.attached = asyncio.Event()
        super().__init__()

    async def _serve(self) -> None:
        async with connect(
            self._url,
            subprotocols=[TERMINAL_SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            ping_interval=None,
            close_timeout=1,
        ) as socket:
            place = {"stream_id": self.stream_id, "offset": self.start + len(self.seen)} if self.stream_id else {}
            await socket.send(json.dumps({"type": "attach", "access_token": self._token, **place}))
            try:
                while True:
                    frame = await socket.recv()
                    if isinstance(frame, bytes):
                        self.seen += frame
                        self.progress()
                    else:
                        await self._take(socket, json.loads(frame))
            finally:
                self.attached.clear()

    async def _take(self, socket: ClientConnection, message: dict) -> None:
        match message["type"]:
            case "attached":
                if self.stream_id is None:
                    self.stream_id, self.start = message["stream_id"], message["offset"]
                elif (message["stream_id"], message["mode"]) != (self.stream_id, "exact"):
                    self.faults.append(message)
                self.attached.set()
            case "gap" | "stream_started":
                self.faults.append(message)
            case "ping":
                await socket.send('{"type":"pong"}')
            case _:
                pass


def _now() -> str:
    return datetime.now(UTC).isoformat()
