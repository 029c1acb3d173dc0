"""The socket: handshake, joins, tokens, limits, and clients that misbehave."""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import replace
from typing import Any

import pytest
from support.cases import cases
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from onsembl.protocol.close_codes import CloseCode
from onsembl.realtime.auth.settings import AuthSettings

from .conftest import IMPATIENT, PATIENCE, Wire, open_wire

HOUR = AuthSettings().access_token_lifetime


async def rejection(url: str, query: str) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(f"{url.replace('http', 'ws')}/realtime/v1/websocket{query}"):
            pass
    response = caught.value.response
    return response.status_code, json.loads(response.body or b"{}")


async def test_a_rejected_handshake_has_the_reason(impatient):
    """A client without a valid key is rejected before the upgrade, with Supabase Realtime's text."""
    assert await rejection(impatient.url, "") == (401, {"error": "API key is missing"})
    assert await rejection(impatient.url, "?apikey=nonsense") == (
        401,
        {"error": "The token provided is not a valid JWT"},
    )


async def test_a_token_is_a_key_too(impatient):
    """An access token in the place of the key opens the socket."""
    await impatient.operator("ann")
    token = (await impatient.sign_in("ann"))["access_token"]
    async with open_wire(impatient.url, token) as wire:
        assert (await wire.join("room"))["status"] == "ok"


async def test_too_many_users_are_rejected(serve_project):
    """A client above the limit is rejected with the reason, and accepted after another client has left."""
    async with serve_project(limits=replace(IMPATIENT, concurrent_users=1)) as project:
        async with open_wire(project.url, project.key) as wire:
            await wire.flush()
            assert await rejection(project.url, f"?apikey={project.key}") == (
                429,
                {"error": "Too many connected users"},
            )
        while project.builtin.realtime.sockets:
            await asyncio.sleep(0.01)
        async with open_wire(project.url, project.key) as wire:
            await wire.flush()


async def test_sockets_without_a_users_token_are_limited_by_address(serve_project):
    """The public key alone opens a limited number of sockets from an address; signed-in clients are not counted."""
    async with serve_project(limits=replace(IMPATIENT, unauthenticated_per_address=1)) as project:
        await project.operator("ann")
        token = (await project.sign_in("ann"))["access_token"]
        async with open_wire(project.url, project.key) as first:
            await first.flush()
            status, answer = await rejection(project.url, f"?apikey={project.key}")
            assert (status, answer) == (429, {"error": "Too many sockets without a user's token"})
            async with open_wire(project.url, token) as second:
                assert (await second.join("room"))["status"] == "ok"
            assert (await first.join("room", token))["status"] == "ok"
            async with open_wire(project.url, project.key) as third:
                await third.flush()


async def test_a_socket_without_a_users_token_is_closed(serve_project):
    """A socket that joins only with the public key is closed in time; one with a user's token, or with the secret key,
    stays open."""
    patient = replace(IMPATIENT, authentication_seconds=1000.0, idle=math.inf, no_channel=math.inf)
    rejections: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()
    async with serve_project(
        limits=patient, on_rejected=lambda *rejection: rejections.put_nowait(rejection)
    ) as project:
        await project.operator("ann")
        token = (await project.sign_in("ann"))["access_token"]
        async with (
            open_wire(project.url, project.key) as signed_in,
            open_wire(project.url, project.secret) as service,
            open_wire(project.url, project.key) as unknown,
        ):
            await service.flush()
            assert (await signed_in.join("room", token))["status"] == "ok"
            assert (await unknown.join("room"))["status"] == "ok"
            for socket in project.builtin.realtime.sockets:
                socket.check(time.monotonic() + 1001, time.time())
            await asyncio.wait_for(unknown.connection.wait_closed(), PATIENCE)
            assert unknown.connection.close_code == CloseCode.UNAUTHENTICATED
            assert await rejections.get() == ("realtime socket", "No user's token in time", "127.0.0.1")
            await signed_in.flush()
            await service.flush()
    assert rejections.empty(), "the other client left by itself"


async def test_heartbeats_joins_and_leaves(wire):
    """Heartbeats, joins and leaves are answered with their refs, and a left topic is closed."""
    ref = await wire.send("phoenix", "heartbeat", {})
    assert await wire.reply(ref) == {"status": "ok", "response": {}}
    assert await wire.join("room") == {"status": "ok", "response": {"postgres_changes": []}}
    ref = await wire.send("realtime:room", "phx_leave", {}, join_ref="1")
    assert (await wire.reply(ref))["status"] == "ok"
    await wire.expect("phx_close", "realtime:room")
    ref = await wire.send("realtime:room", "phx_leave", {})
    assert (await wire.reply(ref))["status"] == "ok"
    ref = await wire.send("realtime:room", "broadcast", {})
    assert await wire.reply(ref) == {"status": "error", "response": {"reason": "unmatched topic"}}


async def test_a_heartbeat_without_a_ref_is_answered(wire):
    """A heartbeat without a ref, as the Python client sends, is answered."""
    await wire.send("phoenix", "heartbeat", {}, ref=None)
    assert (await wire.expect("phx_reply"))["status"] == "ok"


async def test_joining_again_closes_the_old_channel(impatient):
    """A second join closes the first channel under its own ref, and is then accepted."""
    async with open_wire(impatient.url, impatient.key) as wire:
        await wire.join("room")
        await wire.send("realtime:room", "phx_join", {"config": {}}, join_ref="9", ref="9")
        close = await wire.receive()
        assert close == ["1", "1", "realtime:room", "phx_close", {}]
        assert (await wire.reply("9"))["status"] == "ok"


@cases(
    ("topic", "payload", "reason"),
    [
        ("realtime:", {}, "TopicNameRequired: You must provide a topic name"),
        ("elsewhere", {}, "unmatched topic"),
        ("realtime:x", {"access_token": "junk"}, "MalformedJWT: The token provided is not a valid JWT"),
    ],
)
async def test_invalid_joins_are_rejected(wire, topic, payload, reason):
    """Invalid joins are rejected with Supabase Realtime's texts."""
    ref = await wire.send(topic, "phx_join", payload, join_ref="1")
    assert await wire.reply(ref) == {"status": "error", "response": {"reason": reason}}


async def test_rejections_are_delayed(serve_project):
    """A rejected join is answered after a pause that delays no other message."""
    async with serve_project(limits=replace(IMPATIENT, join_error_backoff=0.2)) as project:
        async with open_wire(project.url, project.key) as wire:
            began = time.monotonic()
            await wire.reply(await wire.send("realtime:", "phx_join", {}, join_ref="1"))
            assert time.monotonic() - began > 0.19  # the timers of the event loop are up to a millisecond early
    async with serve_project(limits=replace(IMPATIENT, join_error_backoff=3600.0)) as project:
        async with open_wire(project.url, project.key) as wire:
            ref = await wire.send("realtime:", "phx_join", {}, join_ref="1")
            assert (await wire.join("room"))["status"] == "ok"
            assert not [frame for frame in await wire.flush() if frame[1] == ref]


async def test_malformed_frames_are_dropped(wire, impatient):
    """Malformed frames are dropped and counted, and the socket stays open."""
    for frame in [
        "",
        "{",
        "[]",
        "[1,2,3,4,5]",
        '{"topic": 1}',
        b"",
        b"\x03",
        b"\x09abc",
        b"\x03\x01\x01\x01\x01\xff\x01",
    ]:
        await wire.connection.send(frame)
    assert (await wire.join("room"))["status"] == "ok"
    assert impatient.builtin.realtime.counters.bad_frames == 9


async def test_channels_of_a_socket_are_limited(serve_project):
    """A join above the limit of channels is rejected."""
    async with serve_project(limits=replace(IMPATIENT, channels_per_socket=2)) as project:
        async with open_wire(project.url, project.key) as wire:
            assert (await wire.join("1"))["status"] == "ok"
            assert (await wire.join("2"))["status"] == "ok"
            assert (await wire.join("2"))["status"] == "ok"
            assert (await wire.join("3"))["response"] == {"reason": "ChannelRateLimitReached: Too many channels"}


async def test_joins_are_limited(serve_project):
    """A client that joins too often gets the reason and is disconnected."""
    async with serve_project(limits=replace(IMPATIENT, joins_per_second=0.02, rate_window=100.0)) as project:
        async with open_wire(project.url, project.key) as wire:
            assert (await wire.join("1"))["status"] == "ok"
            assert (await wire.join("2"))["status"] == "ok"
            assert (await wire.join("3"))["response"] == {
                "reason": "ClientJoinRateLimitReached: Too many joins per second"
            }
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(wire.connection.recv(), PATIENCE)


async def test_messages_are_limited(serve_project):
    """A client that sends too much loses its channel, and other clients on the topic keep theirs."""
    async with serve_project(limits=replace(IMPATIENT, events_per_second=0.1, rate_window=100.0)) as project:
        async with open_wire(project.url, project.key) as wire, open_wire(project.url, project.key) as other:
            await wire.join("room")
            await other.join("room")
            for _ in range(11):
                await wire.send("realtime:room", "broadcast", {"event": "e", "payload": {}})
            assert (await wire.expect("system"))["message"] == "Too many messages per second"
            await wire.expect("phx_close")
            assert not [frame for frame in await other.flush() if frame[3] != "broadcast"]


async def test_an_expired_token_closes_the_channel(serve_project):
    """A channel with an expired token is closed with the reason; a channel of the key stays open."""
    async with serve_project(limits=IMPATIENT, settings=AuthSettings(access_token_lifetime=2)) as project:
        await project.operator("ann")
        async with open_wire(project.url, project.key) as wire:
            assert (await wire.join("key"))["status"] == "ok"
            token = (await project.sign_in("ann"))["access_token"]
            while (await wire.join("ann", token))["status"] != "ok":  # On a busy machine it may have expired already.
                token = (await project.sign_in("ann"))["access_token"]
            system = await wire.expect("system")
            assert system["channel"] == "ann"
            assert system["message"].startswith("Token has expired ")
            await wire.expect("phx_close", "realtime:ann")
            reply = await wire.join("ann", token)
            assert reply["response"]["reason"].startswith("InvalidJWTToken: Token has expired ")
            assert not [frame for frame in await wire.flush() if frame[2] == "realtime:key"]


async def test_a_new_token_in_time_keeps_the_channel(impatient, clock):
    """An access token is renewed on the open channel; an invalid one closes the channel."""
    await impatient.operator("ann")
    async with open_wire(impatient.url, impatient.key) as wire:
        await wire.join("ann", (await impatient.sign_in("ann"))["access_token"])
        for lifetime in (2 * HOUR, 3 * HOUR):
            impatient.builtin._tokens.lifetime = lifetime
            token = (await impatient.sign_in("ann"))["access_token"]
            await wire.send("realtime:ann", "access_token", {"access_token": token})
            await wire.flush()
            await clock.put_forward(HOUR)  # The previous token has expired now.
        assert await wire.flush() == []
        for ignored in (None, "sb_publishable_x", token):
            await wire.send("realtime:ann", "access_token", {"access_token": ignored})
        await wire.send("realtime:ann", "access_token", {"access_token": "junk"})
        assert (await wire.expect("system"))["message"] == "The token provided is not a valid JWT"
        await wire.expect("phx_close")


async def test_silent_clients_are_closed(impatient, serve_project, clock):
    """A socket without incoming frames and a socket without a channel are closed."""
    async with open_wire(impatient.url, impatient.key) as wire:
        await wire.join("room")
        clock.silence = IMPATIENT.idle
        await asyncio.wait_for(wire.connection.wait_closed(), PATIENCE)
    clock.silence = 0.0
    async with serve_project(limits=replace(IMPATIENT, idle=3600.0)) as project:
        async with open_wire(project.url, project.key) as joined, open_wire(project.url, project.key) as wire:
            await joined.join("room")
            clock.silence = IMPATIENT.no_channel
            await asyncio.wait_for(wire.connection.wait_closed(), PATIENCE)
            await joined.flush()


async def test_a_slow_client_joins_again_and_delays_no_other(serve_project):
    """When too many bytes wait for a client, its channel fails and its socket stays: it joins again and gets all from
    then on. Other clients get everything."""
    limits = replace(IMPATIENT, queue_bytes=1024 * 1024, events_per_second=10_000)
    async with serve_project(limits=limits) as project:
        async with open_wire(project.url, project.key) as sender, open_wire(project.url, project.key) as quick:
            slow_address = f"{project.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={project.key}&vsn=2.0.0"
            async with connect(slow_address, max_queue=1, max_size=None, compression=None) as connection:
                slow = Wire(connection, "2.0.0")
                await slow.join("room")
                await sender.join("room")
                await quick.join("room")
                for n in range(400):
                    payload = {"event": "e", "payload": {"n": n, "x": "x" * 50_000}}
                    await sender.send("realtime:room", "broadcast", payload)
                    assert (await quick.expect("broadcast"))["payload"]["n"] == n
                assert project.builtin.realtime.counters.sockets_lagging == 1
                frames = [await slow.receive()]
                while frames[-1][3] == "broadcast":
                    frames.append(await slow.receive())
                assert frames[-1][3] == "phx_error"
                assert [frame[4]["payload"]["n"] for frame in frames[:-1]] == list(range(len(frames) - 1))
                assert (await slow.join("room"))["status"] == "ok"
                await sender.send("realtime:room", "broadcast", {"event": "e", "payload": {"n": 400}})
                assert (await slow.expect("broadcast"))["payload"]["n"] == 400


async def test_booleans_may_be_strings_and_wrong_types_are_ignored(wire):
    """A join with booleans as strings and fields of wrong types is accepted."""
    reply = await wire.join("room", broadcast={"self": "TRUE", "ack": 7}, presence=[], postgres_changes=[None])
    assert reply == {"status": "ok", "response": {"postgres_changes": []}}
    await wire.send("realtime:room", "broadcast", {"event": "e"})
    await wire.expect("broadcast")
