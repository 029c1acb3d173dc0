"""Broadcasts among clients, by HTTP and from SQL, on public and private topics."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from support.cases import cases

from onsembl.realtime.channels.limits import RealtimeLimits

from .conftest import open_wire

PRIVATE = """
    create policy listen on realtime.messages for select to authenticated
        using (realtime.topic() = 'ours' or realtime.topic() = (auth.jwt() ->> 'email'));
    create policy speak on realtime.messages for insert to authenticated
        with check (realtime.topic() = (auth.jwt() ->> 'email'));
"""
HELLO = {"type": "broadcast", "event": "hello", "payload": {"n": 1}}


def kind_3(topic: str, event: str, payload: bytes, *, is_json: bool, ref: str = "7") -> bytes:
    fields = [b"1", ref.encode(), topic.encode(), event.encode(), b""]
    return bytes([3, *map(len, fields), int(is_json)]) + b"".join(fields) + payload


@pytest.fixture
async def private(impatient: Any) -> Any:
    """A project with policies on its private topics; `tokens` of two operators."""
    await impatient.execute(PRIVATE)
    for name in ("ann", "bob"):
        await impatient.operator(name)
    impatient.tokens = {name: (await impatient.sign_in(name))["access_token"] for name in ("ann", "bob")}
    return impatient


async def test_a_broadcast_goes_to_all_but_its_sender(impatient, wire):
    """A broadcast goes to all members of the topic except its sender, in both versions."""
    async with open_wire(impatient.url, impatient.key) as other:
        await wire.join("room")
        await other.join("room")
        await wire.send("realtime:room", "broadcast", HELLO)
        assert await other.expect("broadcast", "realtime:room") == HELLO
        await other.send("realtime:room", "broadcast", HELLO)
        assert await wire.expect("broadcast", "realtime:room") == HELLO
        assert not [frame for frame in await wire.flush() if frame[3] == "broadcast"]


async def test_a_sender_gets_its_broadcast_with_self(wire):
    """With `self` the sender gets its broadcast, too; with `ack` it gets a reply."""
    await wire.join("room", broadcast={"self": "true", "ack": True})
    ref = await wire.send("realtime:room", "broadcast", HELLO)
    assert await wire.expect("broadcast") == HELLO
    assert await wire.reply(ref) == {"status": "ok", "response": {}}


async def test_binary_frames_reach_both_versions(impatient):
    """JSON in a binary frame reaches clients of 1.0.0 as text; bytes reach only clients of 2.0.0."""
    async with (
        open_wire(impatient.url, impatient.key) as sender,
        open_wire(impatient.url, impatient.key) as new,
        open_wire(impatient.url, impatient.key, "1.0.0") as old,
    ):
        for wire in (sender, new, old):
            await wire.join("room", broadcast={"ack": True})
        await sender.connection.send(kind_3("realtime:room", "bytes", b"\x00\xff", is_json=False))
        await sender.connection.send(kind_3("realtime:room", "json", b'{"a": 1}', is_json=True, ref="8"))
        assert await sender.reply("8") == {"status": "ok", "response": {}}
        assert (await new.expect("broadcast"))["payload"] == b"\x00\xff"
        assert (await new.expect("broadcast"))["payload"] == {"a": 1}
        assert await old.expect("broadcast") == {"type": "broadcast", "event": "json", "payload": {"a": 1}}


async def test_a_payload_too_large_is_dropped(serve_project):
    """A broadcast with more bytes than the limit is dropped, on the socket and by HTTP, even if its characters are
    fewer; with `ack` the sender gets an error."""
    async with serve_project(limits=RealtimeLimits(payload_bytes=1000)) as project:
        async with open_wire(project.url, project.key) as wire:
            await wire.join("room", broadcast={"self": True, "ack": True})
            for text in ("x" * 2000, "€" * 400):
                message = {**HELLO, "payload": {"x": text}}
                frame = json.dumps(["1", text[0], "realtime:room", "broadcast", message], ensure_ascii=False)
                await wire.connection.send(frame)
                assert await wire.reply(text[0]) == {"status": "error", "response": {"error": "payload_size_exceeded"}}
                body = json.dumps({"messages": [{**message, "topic": "room"}]}, ensure_ascii=False).encode()
                headers = {"apikey": project.key, "content-type": "application/json"}
                answer = await project.http.post("/realtime/v1/api/broadcast", content=body, headers=headers)
                assert answer.status_code == 422
                assert answer.json()["errors"]["messages"] == [{"payload": ["Payload size exceeds tenant limit"]}]
            assert not [frame for frame in await wire.flush() if frame[3] == "broadcast"]


async def test_policies_control_a_private_topic(private):
    """A client that may not read is rejected; one that may not write gets broadcasts, and its own are dropped."""
    async with (
        open_wire(private.url, private.key) as ann,
        open_wire(private.url, private.key) as bob,
        open_wire(private.url, private.key) as anon,
    ):
        assert (await anon.join("ours", private=True))["response"] == {
            "reason": "Unauthorized: You do not have permissions to read from this Channel topic: ours"
        }
        assert (await bob.join("ann", private.tokens["bob"], private=True))["status"] == "error"
        assert (await ann.join("ours", private.tokens["ann"], private=True))["status"] == "ok"
        assert (await bob.join("ours", private.tokens["bob"], private=True))["status"] == "ok"
        await bob.send("realtime:ours", "broadcast", HELLO)
        await bob.flush()
        assert not [frame for frame in await ann.flush() if frame[3] == "broadcast"]


async def test_a_private_broadcast_stays_on_its_topic(private):
    """A broadcast on a private topic does not reach the public topic of the same name."""
    async with (
        open_wire(private.url, private.key) as one,
        open_wire(private.url, private.key) as two,
        open_wire(private.url, private.key) as public,
    ):
        await one.join("ann", private.tokens["ann"], private=True)
        await two.join("ann", private.tokens["ann"], private=True)
        await public.join("ann")
        await one.send("realtime:ann", "broadcast", HELLO)
        assert await two.expect("broadcast") == HELLO
        assert not [frame for frame in await public.flush() if frame[3] == "broadcast"]


async def test_a_new_token_that_may_not_read_closes_the_channel(private):
    """The policies are queried again for each new token."""
    async with open_wire(private.url, private.key) as wire:
        await wire.join("ann", private.tokens["ann"], private=True)
        await wire.send("realtime:ann", "access_token", {"access_token": private.tokens["bob"]})
        assert (await wire.expect("system"))["message"] == (
            "You do not have permissions to read from this Channel topic: ann"
        )
        await wire.expect("phx_close", "realtime:ann")


async def test_a_batch_of_broadcasts_by_http(private, wire):
    """The endpoint broadcasts the messages of a list that the sender may send."""
    await wire.join("room")
    await wire.join("ann", private.tokens["ann"], private=True)
    messages = [
        {"topic": "room", "event": "a", "payload": {"n": 1}},
        {"topic": "ann", "event": "b", "payload": {"n": 2}, "private": True},
        {"topic": "room", "event": "c", "payload": {"n": 3}},
    ]
    headers = {"apikey": private.key}
    response = await private.http.post("/realtime/v1/api/broadcast", json={"messages": messages}, headers=headers)
    assert (response.status_code, response.content) == (202, b"")
    assert await wire.expect("broadcast") == {"type": "broadcast", "event": "a", "payload": {"n": 1}}
    assert await wire.expect("broadcast") == {"type": "broadcast", "event": "c", "payload": {"n": 3}}
    headers["Authorization"] = f"Bearer {private.tokens['ann']}"
    await private.http.post("/realtime/v1/api/broadcast", json={"messages": messages[1:2]}, headers=headers)
    assert await wire.expect("broadcast") == {"type": "broadcast", "event": "b", "payload": {"n": 2}}


async def test_one_broadcast_by_http(impatient, wire):
    """The path has topic and event, and the body is the payload, as JSON or bytes."""
    await wire.join("room")
    address = "/realtime/v1/api/broadcast/room/events/hello"
    headers = {"apikey": impatient.key}
    assert (await impatient.http.post(address, json={"n": 1}, headers=headers)).status_code == 202
    message = await wire.expect("broadcast")
    assert (message["event"], message["payload"]) == ("hello", {"n": 1})
    bytes_ = {**headers, "Content-Type": "application/octet-stream"}
    assert (await impatient.http.post(address, content=b"\x00\x01", headers=bytes_)).status_code == 202
    if wire.version == "2.0.0":
        assert (await wire.expect("broadcast"))["payload"] == b"\x00\x01"


@cases(
    ("address", "request_", "status"),
    [
        ("broadcast", {"json": {"messages": []}}, 422),
        ("broadcast", {"json": {"messages": [{"topic": "x"}]}}, 422),
        ("broadcast", {"json": [1]}, 422),
        ("broadcast", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ("broadcast", {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        ("broadcast/t/events/e", {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        ("broadcast", {"json": {}, "headers": {"apikey": "sb_publishable_wrong"}}, 401),
        ("broadcast", {"json": {}, "headers": {"apikey": ""}}, 401),
        ("broadcast", {"json": {"messages": [{"topic": "x", "event": "e", "payload": {}}] * 5001}}, 429),
    ],
)
async def test_bad_requests_are_rejected(impatient, address, request_, status):
    """Each kind of bad request gets its status."""
    request_["headers"] = {"apikey": impatient.key, **request_.get("headers", {})}
    response = await impatient.http.post(f"/realtime/v1/api/{address}", **request_)
    assert response.status_code == status


async def test_pages_of_other_origins_may_send(impatient):
    """The preflight allows pages of other origins to broadcast."""
    response = await impatient.http.options(
        "/realtime/v1/api/broadcast",
        headers={
            "Origin": "http://elsewhere",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "apikey,content-type",
        },
    )
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "*"


async def test_the_database_broadcasts(private, wire):
    """realtime.send and send_binary broadcast after the commit, with the message's id."""
    reply = await wire.join("ours", private.tokens["ann"], private=True, broadcast={"replication_ready": True})
    assert reply["status"] == "ok"
    assert (await wire.expect("system"))["message"] == "Replication connection established"
    await private.execute("""select realtime.send('{"n": 1}', 'hello', 'ours')""")
    message = await wire.expect("broadcast", "realtime:ours")
    assert (message["event"], message["payload"]["n"]) == ("hello", 1)
    assert message["payload"]["id"] == message["meta"]["id"]
    await private.execute("select realtime.send_binary('\\x0001', 'bytes', 'ours')")
    if wire.version == "2.0.0":
        assert (await wire.expect("broadcast"))["payload"] == b"\x00\x01"


async def test_a_trigger_broadcasts_changed_rows(private):
    """realtime.broadcast_changes broadcasts a changed row, new and old."""
    await private.execute(
        """create table public.things (id int primary key, name text);
        create function public.tell() returns trigger language plpgsql as $$
        begin
            perform realtime.broadcast_changes('ours', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
            return null;
        end $$;
        create trigger tell after insert or update or delete on things for each row execute function tell()"""
    )
    async with open_wire(private.url, private.key) as wire:
        await wire.join("ours", private.tokens["ann"], private=True, broadcast={"replication_ready": True})
        await wire.expect("system")
        await private.execute("insert into public.things values (1, 'a'); update public.things set name = 'b'")
        payload = (await wire.expect("broadcast"))["payload"]
        assert (payload["operation"], payload["record"], payload["old_record"]) == (
            "INSERT",
            {"id": 1, "name": "a"},
            None,
        )
        payload = (await wire.expect("broadcast"))["payload"]
        assert (payload["table"], payload["schema"]) == ("things", "public")
        assert payload["old_record"] == {"id": 1, "name": "a"}


async def test_stored_messages_are_replayed(private, wire):
    """A private channel gets stored messages on request, and none of them twice."""
    since = int(time.time() * 1000) - 1000
    for n in range(3):
        await private.execute(f"""select realtime.send('{{"n": {n}}}', 'e', 'ours')""")
    reply = await wire.join(
        "ours", private.tokens["ann"], private=True, broadcast={"replay": {"since": since, "limit": 2}}
    )
    assert reply["status"] == "ok"
    messages = [await wire.expect("broadcast") for _ in range(2)]
    assert [message["payload"]["n"] for message in messages] == [1, 2]
    assert all(message["meta"]["replayed"] for message in messages)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"broadcast": {"replay": {"since": 1}}}, "Replay is not allowed for public channels"),
        ({"private": True, "broadcast": {"replay": {"since": "x"}}}, "Replay params are not valid"),
    ],
)
async def test_impossible_replays_are_rejected(private, config, reason):
    """A replay on a public topic or with invalid parameters is rejected with the reason."""
    async with open_wire(private.url, private.key) as wire:
        reply = await wire.join("ours", private.tokens["ann"], **config)
        assert reply["response"] == {"reason": f"UnableToReplayMessages: {reason}"}


async def test_a_policy_that_fails_rejects_the_join(private):
    """An error in a policy rejects the join."""
    await private.execute("create policy broken on realtime.messages for select to anon using (1 / 0 = 1)")
    async with open_wire(private.url, private.key) as wire:
        assert (await wire.join("ours", private=True))["response"]["reason"].startswith("Unauthorized: ")


async def test_policy_queries_leave_no_messages(private):
    """Policies are tested with messages that are rolled back."""
    async with open_wire(private.url, private.key) as wire:
        await wire.join("ann", private.tokens["ann"], private=True, presence={"enabled": True}, broadcast={"ack": True})
        ref = await wire.send("realtime:ann", "broadcast", HELLO)
        assert (await wire.reply(ref))["status"] == "ok"
    from onsembl.sql.database import connect

    async with await connect(private.database_url) as conn:
        cursor = await conn.execute("select count(*) as n from realtime.messages")
        assert (await cursor.fetchone())["n"] == 0  # type: ignore[index]
