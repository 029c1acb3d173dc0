"""Ten or a hundred thousand random frames harm neither the server nor another client's channel."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from onsembl.realtime.channels import socket as channels_socket

from ..conftest import ProjectFactory
from .conftest import IMPATIENT, open_wire

FRAMES = int(os.environ.get("ONSEMBL_FUZZ_FRAMES", "100000"))
"""How many frames the long form sends."""
PORTIONS = 8
SENDERS = 4
EVENTS = ["phx_join", "phx_leave", "broadcast", "presence", "access_token", "heartbeat", "system", "phx_close", ""]
TOPICS = [
    "realtime:room",
    "realtime:fuzz",
    "realtime:",
    "phoenix",
    "",
    "realtime:" + "x" * 300,
    "realtime:\u00e9\U0001f600",
]
VALUES: list[Any] = [
    None, True, 0, -1, 2**63, 1e308, "", "x", "true", "\u0000", "sb_x", "track", "untrack", "INSERT", "*", "notes",
    "id=eq.1", "id=in.(1", "a=b=c.,", [], {}, [None], {"a": None}, "x" * 5000, "notes'; drop table notes; --",
]  # fmt: skip
NAMES = [
    "config", "private", "broadcast", "presence", "postgres_changes", "self", "ack", "replay", "since", "limit", "key",
    "enabled", "event", "schema", "table", "filter", "select", "access_token", "user_token", "payload", "type", "wait",
    "postgres_changes_options", "timeout", "replication_ready",
]  # fmt: skip


def value(chance: random.Random, depth: int = 0) -> Any:
    roll = chance.random()
    if depth > 4 or roll < 0.4:
        return chance.choice(VALUES)
    if roll < 0.85:
        return {chance.choice(NAMES): value(chance, depth + 1) for _ in range(chance.randrange(4))}
    return [value(chance, depth + 1) for _ in range(chance.randrange(4))]


def plausible(chance: random.Random) -> dict[str, Any]:
    """The payload of a join that is mostly valid."""
    change = {name: chance.choice(["public", "notes", "*", "id=eq.1", "INSERT", 5]) for name in NAMES[12:16]}
    return {
        "config": {
            "private": chance.random() < 0.1,
            "broadcast": {"self": True, "ack": chance.random() < 0.5},
            "presence": {"enabled": chance.random() < 0.5, "key": chance.choice(VALUES)},
            "postgres_changes": [change] * chance.randrange(3),
        }
    }


def frame(chance: random.Random, version: str) -> str | bytes:
    roll = chance.random()
    if roll < 0.05:
        return chance.randbytes(chance.randrange(40))
    if roll < 0.25 and version == "2.0.0":
        fields = [
            chance.choice(["", "1", "x" * 255]),
            "1",
            chance.choice(TOPICS)[:80],
            "e",
            chance.choice(["", "{}", "[", '{"a":1}']),
        ]
        parts = [part.encode() for part in fields]
        data = bytearray(
            bytes([chance.choice([3, 3, 3, 0, 4]), *(len(part) for part in parts), chance.randrange(3)])
            + b"".join(parts)
            + chance.randbytes(8)
        )
        if chance.random() < 0.5:
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    payload = plausible(chance) if chance.random() < 0.3 else value(chance)
    refs = [chance.choice([[], True, 1.5] if chance.random() < 0.02 else [None, "1", 1, "", 2**40]) for _ in range(2)]
    topic: Any = chance.choice(TOPICS) if chance.random() < 0.95 else value(chance)
    event: Any = chance.choice(EVENTS) if chance.random() < 0.95 else value(chance)
    if version == "1.0.0":
        message: Any = {"join_ref": refs[0], "ref": refs[1], "topic": topic, "event": event, "payload": payload}
        if chance.random() < 0.05:
            del message[chance.choice(list(message))]
    else:
        message = [*refs, topic, event, payload]
        if chance.random() < 0.05:
            message.pop()
    text = json.dumps(message)
    if chance.random() < 0.1:
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(['"', "{", "\\", "\\ud800", "[" * 2000, "9" * 400, "\u0000"]) + text[at + 1 :]
    return text


async def send_frames(url: str, key: str, seed: int, count: int) -> None:
    """Send random frames, over as many sockets as it takes, and ignore the replies."""
    chance = random.Random(seed)
    version = chance.choice(["1.0.0", "2.0.0"])
    address = f"{url.replace('http', 'ws')}/realtime/v1/websocket?apikey={key}&vsn={version}"
    while count > 0:
        async with connect(address, compression=None, max_size=None) as connection:

            async def forget(connection: Any = connection) -> None:
                async for _ in connection:
                    pass

            reading = asyncio.create_task(forget())
            try:
                while count > 0:
                    count -= 1
                    await connection.send(frame(chance, version))
            except ConnectionClosed:
                pass
            finally:
                await connection.close()
                await asyncio.gather(reading, return_exceptions=True)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(10_000, marks=pytest.mark.seconds(4)),
        pytest.param(FRAMES, marks=[pytest.mark.soak, pytest.mark.seconds(40)]),
    ],
)
async def test_no_frame_harms_the_server_or_another_client(serve_project, caplog, frames):
    """During random frames, another client's channel replies, gets broadcasts and gets changes."""
    await send_beside_a_witness(serve_project, caplog, frames)


async def test_a_missing_guard_is_detected(serve_project, caplog, monkeypatch):
    """If bad frames were not dropped, the server's log would show an error."""
    monkeypatch.setattr(channels_socket, "BadFrame", NeverRaised)
    with pytest.raises(AssertionError, match="BadFrame"):
        await send_beside_a_witness(serve_project, caplog, 400)


class NeverRaised(Exception):
    """Replaces the exception that is caught."""


async def send_beside_a_witness(serve_project: ProjectFactory, caplog: pytest.LogCaptureFixture, frames: int) -> None:
    """Send random frames in portions, and check another client's channels at least once in each portion."""
    caplog.set_level(logging.ERROR)
    limits = replace(
        IMPATIENT, channels_per_socket=20, joins_per_second=10_000, events_per_second=100_000, presence_calls=10**9
    )
    async with serve_project(limits=limits) as project:
        await project.execute(
            """create table public.notes (id bigint primary key); grant select on notes to anon;
            alter publication supabase_realtime add table notes;
            create policy p on realtime.messages using (realtime.topic() <> 'fuzz') with check (true)"""
        )
        async with open_wire(project.url, project.key) as wire:
            await wire.subscribe(project.key, {"event": "*", "schema": "public", "table": "notes"})
            await wire.join("quiet", broadcast={"self": True})
            chance = random.SystemRandom()
            witnessed = 0
            for _ in range(PORTIONS):
                seeds = [chance.randrange(2**32) for _ in range(SENDERS)]
                print("seeds", seeds)  # pytest shows them when the test fails.
                share = frames // (PORTIONS * SENDERS)
                sending = [asyncio.create_task(send_frames(project.url, project.key, seed, share)) for seed in seeds]
                while not all(task.done() for task in sending):
                    witnessed += 1
                    await project.execute(f"insert into public.notes values ({witnessed})")
                    assert (await wire.change())["record"] == {"id": witnessed}
                    await wire.send("realtime:quiet", "broadcast", {"event": "e", "payload": {"n": witnessed}})
                    assert (await wire.expect("broadcast", "realtime:quiet"))["payload"] == {"n": witnessed}
                    wire._kept.clear()
                    await asyncio.wait(sending, timeout=0.1)
                await asyncio.gather(*sending)
            assert (await wire.join("after"))["status"] == "ok"
            assert witnessed > 5
    assert [record.exc_text or record for record in caplog.records if record.levelno >= logging.ERROR] == []
