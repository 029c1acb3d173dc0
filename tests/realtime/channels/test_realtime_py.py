"""The built-in Supabase Realtime, with the unmodified Python client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from onsembl.realtime.auth.settings import AuthSettings
from onsembl.sql.database import connect

from .conftest import NOTES, PATIENCE

PASSWORD = "correct horse battery"


class Calls:
    """A callback that records its calls, which a test waits for."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()

    def __call__(self, *args: Any) -> None:
        self._queue.put_nowait(args[0] if len(args) == 1 else args)

    async def next(self) -> Any:
        return await asyncio.wait_for(self._queue.get(), PATIENCE)


@pytest.fixture
async def client() -> AsyncGenerator[Callable[..., Any]]:
    """Creates clients with a signed-in operator: `supabase = await client(project, "ann")`."""
    clients: list[AsyncClient] = []
    http = httpx.AsyncClient(timeout=30)  # The client does not close its own HTTP client.

    async def make(project: Any, email: str) -> AsyncClient:
        await project.operator(email)
        options = AsyncClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
        made = await acreate_client(project.url, project.key, options)
        clients.append(made)
        session = (await made.auth.sign_in_with_password({"email": email, "password": PASSWORD})).session
        assert session is not None
        await made.realtime.set_auth(session.access_token)
        return made

    yield make
    for made in clients:
        await made.realtime.close()
        await made.remove_all_channels()
    await http.aclose()


@pytest.fixture
async def notes(project: Any) -> Any:
    async with await connect(project.database_url, autocommit=True) as conn:
        await conn.execute(NOTES)
        yield conn


async def subscribe(client: Any, **params: Any) -> tuple[Calls, Calls]:
    """Subscribe, and return the calls with changes and with statuses."""
    changes, system, statuses = Calls(), Calls(), Calls()
    channel = client.channel("notes")
    channel.on_postgres_changes("*", changes, table="notes", schema="public", **params)
    channel.on_system(system)
    await channel.subscribe(statuses)
    assert (await statuses.next())[0].value == "SUBSCRIBED"
    assert (await system.next()).status == "ok"
    return changes, statuses


async def test_changes_arrive_by_filter_and_right(project, client, notes):
    """A client gets changes of the rows that its filter and row-level security allow."""
    ann, bob = await client(project, "ann"), await client(project, "bob")
    (anns, _), (bobs, _) = await subscribe(ann), await subscribe(bob, filter="number=gt.1")
    await notes.execute("insert into notes (owner, number) values ('ann', 1), ('bob', 1), ('bob', 2), ('all', 3)")
    assert [(await anns.next())["data"]["record"]["number"] for _ in range(2)] == [1, 3]
    assert [(await bobs.next())["data"]["record"]["number"] for _ in range(2)] == [2, 3]
    await notes.execute("update notes set text = 'x' where number = 3")
    assert (await anns.next())["data"]["record"]["text"] == "x"
    await notes.execute("delete from notes where number = 3")
    assert (await anns.next())["data"]["old_record"] == {"id": 4}


async def test_broadcast_and_presence(project, client):
    """Two clients on one topic get each other's broadcasts and presence."""
    ann, bob = await client(project, "ann"), await client(project, "bob")
    rooms, heard, synced = [], Calls(), Calls()
    for name, supabase in (("ann", ann), ("bob", bob)):
        room = supabase.channel("room", {"config": {"presence": {"key": name}, "broadcast": {"ack": True}}})
        room.on_broadcast("hello", heard)
        room.on_presence_sync(lambda room=room: synced(room.presence_state()))
        statuses = Calls()
        await room.subscribe(statuses)
        assert (await statuses.next())[0].value == "SUBSCRIBED"
        rooms.append(room)
    await rooms[0].send_broadcast("hello", {"n": 1})
    assert (await heard.next())["payload"] == {"n": 1}
    await rooms[0].track({"at": "desk"})
    await rooms[1].track({"at": "home"})
    while set(await synced.next()) != {"ann", "bob"}:
        pass


async def test_an_expired_token_errors_the_channel(project, client, clock):
    """The client reports an expired token as an error of the channel."""
    supabase = await client(project, "ann")
    statuses = Calls()
    channel = supabase.channel("room")
    await channel.subscribe(statuses)
    assert (await statuses.next())[0].value == "SUBSCRIBED"
    await clock.put_forward(AuthSettings().access_token_lifetime)
    assert (await statuses.next())[0].value == "CHANNEL_ERROR"
