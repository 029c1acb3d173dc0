"""A client of the bare wire, and a table with changes."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from psycopg import AsyncConnection
from websockets.asyncio.client import ClientConnection, connect

from onsembl.realtime.channels import app
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.sql.database import connect as connect_database

PATIENCE = 60.0
IMPATIENT = RealtimeLimits(connect_error_backoff=0.0, join_error_backoff=0.0)
"""The default limits, without the pauses before rejections."""

NOTES = """
    create table public.notes (
        id bigint generated always as identity primary key,
        owner text not null default 'ann',
        text text,
        secret text,
        number numeric,
        tags text[]
    );
    alter table public.notes enable row level security;
    create policy own on public.notes for select to authenticated
        using (owner = 'all' or owner = auth.jwt() ->> 'email');
    grant select (id, owner, text, number, tags) on public.notes to authenticated;
    alter publication supabase_realtime add table public.notes;
"""


class Clock:
    """Replaces `time` in the checks of expired tokens and silent clients."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.silence = 0.0
        """Seconds for which every client seems to have been silent."""
        self._read = asyncio.Event()

    async def put_forward(self, seconds: float) -> None:
        """Let this many seconds pass, and wait for the next check."""
        self.ahead += seconds
        self._read.clear()
        await asyncio.wait_for(self._read.wait(), PATIENCE)

    def time(self) -> float:
        self._read.set()
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.silence


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(app, "time", clock)
    return clock


class Wire:
    """One socket. A frame is a list `[join_ref, ref, topic, event, payload]` in both versions."""

    def __init__(self, connection: ClientConnection, version: str) -> None:
        self.connection = connection
        self.version = version
        self._refs = itertools.count(1)
        self._kept: list[list[Any]] = []

    async def send(self, topic: str, event: str, payload: Any, join_ref: Any = None, ref: Any = "") -> Any:
        """Send a frame, and return its ref."""
        ref = str(next(self._refs)) if ref == "" else ref
        if self.version == "1.0.0":
            frame: Any = {"topic": topic, "event": event, "payload": payload, "ref": ref, "join_ref": join_ref}
        else:
            frame = [join_ref, ref, topic, event, payload]
        await self.connection.send(json.dumps(frame))
        return ref

    async def receive(self) -> list[Any]:
        data = await asyncio.wait_for(self.connection.recv(), PATIENCE)
        if isinstance(data, bytes):
            kind, topic, event, meta, encoding = data[:5]
            assert kind == 4
            ends = [5, 5 + topic, 5 + topic + event, 5 + topic + event + meta]
            parts = [data[a:b].decode() for a, b in itertools.pairwise(ends)]
            body: Any = data[ends[-1] :]
            payload = {"event": parts[1], "payload": json.loads(body) if encoding else body, "binary": True}
            if parts[2]:
                payload["meta"] = json.loads(parts[2])
            return [None, None, parts[0], "broadcast", payload]
        frame = json.loads(data)
        if self.version == "1.0.0":
            assert set(frame) == {"topic", "event", "payload", "ref"}
            return [None, frame["ref"], frame["topic"], frame["event"], frame["payload"]]
        return frame

    async def expect(self, event: str, topic: str | None = None, **fields: Any) -> dict[str, Any]:
        """The payload of the next frame of this event with these fields; other frames are kept for later."""

        def matches(frame: list[Any]) -> bool:
            return (
                frame[3] == event
                and topic in (None, frame[2])
                and all(frame[4].get(name) == value for name, value in fields.items())
            )

        for frame in self._kept:
            if matches(frame):
                self._kept.remove(frame)
                return frame[4]
        while True:
            frame = await self.receive()
            if matches(frame):
                return frame[4]
            self._kept.append(frame)

    async def reply(self, ref: str) -> dict[str, Any]:
        """The payload of the reply to this ref."""
        for frame in self._kept:
            if frame[3] == "phx_reply" and frame[1] == ref:
                self._kept.remove(frame)
                return frame[4]
        while True:
            frame = await self.receive()
            if frame[3] == "phx_reply" and frame[1] == ref:
                return frame[4]
            self._kept.append(frame)

    async def flush(self) -> list[list[Any]]:
        """All frames up to now, which come before the reply to a heartbeat."""
        ref = await self.send("phoenix", "heartbeat", {})
        await self.reply(ref)
        frames, self._kept = self._kept, []
        return frames

    async def join(self, topic: str, token: str | None = None, **config: Any) -> dict[str, Any]:
        """Join `realtime:{topic}`, and return the reply."""
        payload: dict[str, Any] = {"config": config}
        if token is not None:
            payload["access_token"] = token
        ref = await self.send(f"realtime:{topic}", "phx_join", payload, join_ref="1")
        return await self.reply(ref)

    async def subscribe(self, token: str, *changes: dict[str, Any], topic: str = "changes", **config: Any) -> list[int]:
        """Join with these subscriptions, wait until they deliver changes, and return their ids."""
        reply = await self.join(topic, token, postgres_changes=list(changes), **config)
        assert reply["status"] == "ok", reply
        await self.expect("system", f"realtime:{topic}", extension="postgres_changes", status="ok")
        return [change["id"] for change in reply["response"]["postgres_changes"]]

    async def change(self) -> dict[str, Any]:
        """The next change's `data`."""
        return (await self.expect("postgres_changes"))["data"]


Connect = Callable[..., AbstractAsyncContextManager[Wire]]


@asynccontextmanager
async def open_wire(url: str, key: str, version: str = "2.0.0") -> AsyncGenerator[Wire]:
    address = f"{url.replace('http', 'ws')}/realtime/v1/websocket?apikey={key}&vsn={version}"
    async with connect(address, max_size=None, compression=None, open_timeout=PATIENCE) as connection:
        yield Wire(connection, version)


@pytest.fixture
async def impatient(serve_project: Any) -> AsyncGenerator[Any]:
    """A project that rejects without a pause."""
    async with serve_project(limits=IMPATIENT) as project:
        yield project


@pytest.fixture(params=["1.0.0", "2.0.0"])
async def wire(impatient: Any, request: pytest.FixtureRequest) -> AsyncGenerator[Wire]:
    async with open_wire(impatient.url, impatient.key, request.param) as wire:
        yield wire


@pytest.fixture
async def notes(impatient: Any) -> AsyncGenerator[AsyncConnection[Any]]:
    """The owner's connection, in autocommit, to a database with a published table `notes`."""
    conn = await connect_database(impatient.database_url, autocommit=True)
    await conn.execute(NOTES)
    yield conn
    await conn.close()
