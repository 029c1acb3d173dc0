"""Frames that no client would send: the server stays up, and nobody else's channel is touched.

ONSEMBL_FUZZ_FRAMES=100000 sends as many; the default keeps the test short.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from onsembl.sql.database import connect as connect_database

from .conftest import IMPATIENT, NOTES, open_wire

FRAMES = int(os.environ.get("ONSEMBL_FUZZ_FRAMES", "5000"))
SOCKETS = 4
BATCH = 500
CALM = replace(
    IMPATIENT,
    joins_per_second=1e9,
    events_per_second=1e9,
    presence_events_per_second=1e9,
    presence_calls=1_000_000_000,
)
"""Without rates: every frame is to be looked at, not turned away for coming too soon."""

NONSENSE: list[Any] = [None, True, -1, 2**70, 1.5, "", "x" * 300, "\u0000", "%s", [], {}, [[]], {"a": {}}, "true", "Ω"]
EVENTS = ["phx_join", "phx_leave", "heartbeat", "access_token", "broadcast", "presence", "phx_close", "phx_reply", "?"]
TOPICS = ["realtime:fuzz", "realtime:", "realtime:private", "phoenix", "fuzz", "realtime:fuzz:" + "y" * 200]


def payload(rng: random.Random) -> Any:
    """Something like what an event carries, with a part of it exchanged for nonsense now and then."""
    change = {"event": "*", "schema": "public", "table": "notes", "filter": rng.choice(["id=eq.1", "id=in.(1", "=", 7])}
    shapes: list[Any] = [
        {
            "config": {
                "broadcast": {"self": rng.choice([True, "true", 3]), "ack": True, "replay": {"since": 0, "limit": -1}},
                "presence": {"key": rng.choice(NONSENSE), "enabled": True},
                "postgres_changes": [change, None, rng.choice(NONSENSE)],
                "private": rng.choice([True, False, "false"]),
            },
            "access_token": rng.choice(["x.y.z", "", None, 4, "sb_publishable_x"]),
        },
        {"access_token": rng.choice(NONSENSE)},
        {"type": "broadcast", "event": "e", "payload": rng.choice(NONSENSE)},
        {"type": "presence", "event": rng.choice(["track", "untrack", "TRACK", "?"]), "payload": rng.choice(NONSENSE)},
        {},
        rng.choice(NONSENSE),
    ]
    shape = rng.choice(shapes)
    if isinstance(shape, dict) and shape and rng.random() < 0.3:
        shape = {**shape, rng.choice(list(shape)): rng.choice(NONSENSE)}
    return shape


def frame(rng: random.Random, version: str) -> str | bytes:
    """One frame: well formed but for a part, cut, with bits turned, or bytes of any kind."""
    kind = rng.random()
    if kind < 0.1:
        lengths = [rng.choice([0, 1, 3, 255]) for _ in range(5)]
        head = bytes([rng.choice([0, 1, 2, 3, 4, 9]), *lengths, rng.choice([0, 1, 7])])
        return head[: rng.randint(0, 7)] + rng.randbytes(rng.randint(0, 60))
    parts = ["1", "2", rng.choice(TOPICS), rng.choice(EVENTS), payload(rng)]
    if kind < 0.3:
        parts[rng.randrange(5)] = rng.choice(NONSENSE)
    names = ("join_ref", "ref", "topic", "event", "payload")
    text = json.dumps(dict(zip(names, parts, strict=True)) if version == "1.0.0" else parts)
    if kind > 0.9:
        text = text[: rng.randrange(len(text))]
    elif kind > 0.8:
        at = rng.randrange(len(text))
        text = text[:at] + chr(rng.randrange(32, 127)) + text[at + 1 :]
    return text


async def attack(url: str, key: str, version: str, seed: int, count: int) -> int:
    """Send `count` frames, over as many sockets as it takes; how many were sent."""
    rng = random.Random(seed)
    address = f"{url.replace('http', 'ws')}/realtime/v1/websocket?apikey={key}&vsn={version}"
    sent = 0
    while sent < count:
        async with connect(address, compression=None, max_size=None) as socket:
            drain = asyncio.create_task(_drain(socket))
            with suppress(ConnectionClosed):
                for _ in range(min(BATCH, count - sent)):
                    await socket.send(frame(rng, version))
                    sent += 1
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)
    return sent


async def _drain(socket: Any) -> None:
    with suppress(ConnectionClosed):
        async for _ in socket:
            pass


@pytest.mark.timeout(1800)
async def test_no_frame_harms_the_server_or_another_channel(serve_project, caplog):
    """While the frames come, a subscriber keeps its channel and hears of every change, in order."""
    async with serve_project(limits=CALM) as project:
        await project.operator("ann")
        token = (await project.sign_in("ann"))["access_token"]
        async with (
            open_wire(project.url, project.key) as wire,
            await connect_database(project.database_url, autocommit=True) as conn,
        ):
            await conn.execute(NOTES)
            await wire.follow(token, {"event": "INSERT", "schema": "public", "table": "notes"})
            attacks = [
                asyncio.create_task(attack(project.url, project.key, version, seed, FRAMES // SOCKETS))
                for seed, version in enumerate(["1.0.0", "2.0.0"] * (SOCKETS // 2))
            ]
            heard = 0
            while not all(task.done() for task in attacks) or heard < 20:
                await conn.execute("insert into public.notes (text, owner) values (%s, 'all')", [str(heard)])
                assert (await wire.change())["record"]["text"] == str(heard)
                await wire.send("phoenix", "heartbeat", {})  # the server gives up who is silent for a minute
                heard += 1
            assert sum([await task for task in attacks]) == FRAMES
            assert [frame for frame in await wire.flush() if frame[3] in ("phx_close", "phx_error")] == []
    errors = [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
    assert errors == [], errors[:3]
