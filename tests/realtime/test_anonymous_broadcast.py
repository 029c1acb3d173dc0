"""Supabase's public client without a user: rejected, or with the setting served as by a project."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from support.server import Api, running

from onsembl.api import settings as api_settings
from onsembl.api.settings import Settings
from onsembl.realtime.channels.limits import RealtimeLimits

if TYPE_CHECKING:
    from .conftest import Node

JOIN = """
    state.client = createClient(args.url, args.key, { auth: { persistSession: false, autoRefreshToken: false } });
    state.channel = state.client.channel("room", { config: { broadcast: { self: true, ack: true } } });
    state.channel.on("broadcast", { event: "hello" }, (message) => emit("hello", message.payload));
    state.channel.subscribe((status, error) => emit("status", [status, error?.message ?? null]));
"""
MESSAGES = {"messages": [{"topic": "room", "event": "hello", "payload": {"n": 2}}]}


@pytest.fixture
def settings(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(api_settings, "RealtimeLimits", partial(RealtimeLimits, join_error_backoff=0.0))
    return Settings(database_url=database_url, public_url="", worker=None)


async def post_broadcast(api: Api) -> int:
    key = await api.key()
    return (await api.http.post("/realtime/v1/api/broadcast", json=MESSAGES, headers={"apikey": key})).status_code


async def test_without_the_setting_it_is_rejected(settings: Settings, node: Any) -> None:
    """By default the public key alone opens no channel and sends no broadcast, whatever its size."""
    js: Node = await node()
    async with running(settings) as api:
        await js.run(JOIN, url=api.url, key=await api.key())
        status, message = await js.event("status")
        assert status == "CHANNEL_ERROR"
        assert "Public channels require a user's access token" in message
        assert await post_broadcast(api) == 401
        await js.run("await state.client.removeAllChannels();")


async def test_with_the_setting_it_broadcasts(settings: Settings, node: Any) -> None:
    """With `--anonymous-broadcast`, the client joins, sends and receives, stays connected, and is told of no row."""
    js: Node = await node()
    async with running(replace(settings, anonymous_broadcast=True)) as api:
        await js.run(JOIN, url=api.url, key=await api.key())
        assert (await js.event("status"))[0] == "SUBSCRIBED"
        (socket,) = api.services.builtin.realtime.sockets
        socket.check(time.monotonic() + 30, time.time())  # Half of the time after which a silent client is closed.
        assert await js.run('return state.channel.send({type: "broadcast", event: "hello", payload: {n: 1}});') == "ok"
        assert await js.event("hello") == {"n": 1}
        assert await post_broadcast(api) == 202
        assert await js.event("hello") == {"n": 2}
        assert list(api.services.builtin.realtime.sockets) == [socket]
        await js.run(
            """state.rows = state.client.channel("rows");
               state.rows.on("postgres_changes", { event: "*", schema: "onsembl", table: "*" }, () => emit("row", 1));
               state.rows.on("system", {}, (payload) => emit("system", payload));
               state.rows.subscribe();"""
        )
        system = await js.event("system")
        assert (system["extension"], system["status"]) == ("postgres_changes", "error")
        assert system["message"].startswith("Unable to subscribe to changes with given parameters.")
        await js.run("await state.client.removeAllChannels();")
