"""The built-in Supabase Realtime, with the unmodified JavaScript client in both of its wire versions."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import AsyncConnection

from onsembl.protocol.states import Role
from onsembl.realtime.auth.settings import AuthSettings
from onsembl.realtime.channels.channel import REPLICATION_READY
from onsembl.sql.database import connect

from .conftest import NOTES

SIGN_IN = """
    state.client = createClient(args.url, args.key, {
        auth: { persistSession: false, autoRefreshToken: false },
        realtime: { vsn: args.vsn },
    });
    const { data, error } = await state.client.auth.signInWithPassword(
        { email: args.email, password: "correct horse battery" });
    if (error) throw error;
    await state.client.realtime.setAuth(data.session.access_token);
"""
SUBSCRIBE = """
    state.channel = state.client.channel("notes");
    for (const params of args.changes)
        state.channel.on("postgres_changes", params, (payload) => emit("change", payload));
    state.channel.on("system", {}, (payload) => emit("system", payload));
    state.channel.subscribe((status, error) => emit("status", { status, error: error ? String(error) : null }));
"""
NOTES_CHANGES = {"event": "*", "schema": "public", "table": "notes"}


@pytest.fixture
def project(impatient: Any) -> Any:
    return impatient


# The page speaks 2.0.0; with 1.0.0 the default run has one of these tests, and others that send bytes.
@pytest.fixture(params=[pytest.param("1.0.0", marks=pytest.mark.soak), "2.0.0"])
async def client(request: pytest.FixtureRequest, project: Any, node: Any) -> Any:
    """Starts a Node process with a signed-in operator: `js = await client("ann")`."""

    async def start(email: str) -> Any:
        await project.operator(email, Role.VIEWER)
        js = await node()
        await js.run(SIGN_IN, url=project.url, key=project.key, email=email, vsn=request.param)
        return js

    return start


@pytest.fixture
async def notes(project: Any) -> Any:
    conn: AsyncConnection[Any] = await connect(project.database_url, autocommit=True)
    await conn.execute(NOTES)
    yield conn
    await conn.close()


async def subscribe(js: Any, *changes: dict[str, Any]) -> None:
    await js.run(SUBSCRIBE, changes=list(changes or [NOTES_CHANGES]))
    assert await js.event("status") == {"status": "SUBSCRIBED", "error": None}
    system = await js.event("system")
    assert (system["extension"], system["status"], system["message"]) == (
        "postgres_changes",
        "ok",
        "Subscribed to PostgreSQL",
    )


async def test_changes_arrive(client, notes):
    """Insert, update and delete arrive with values of JavaScript's types."""
    js = await client("ann")
    await subscribe(js)
    await notes.execute("insert into notes (text, number, tags) values ('hello', 2.5, '{a,b}')")
    change = await js.event("change")
    assert (change["eventType"], change["schema"], change["table"]) == ("INSERT", "public", "notes")
    assert change["new"] == {"id": 1, "owner": "ann", "text": "hello", "number": 2.5, "tags": ["a", "b"]}
    assert (change["old"], change["errors"]) == ({}, None)
    await notes.execute("update notes set text = 'bye'")
    change = await js.event("change")
    assert (change["eventType"], change["new"]["text"], change["old"]) == ("UPDATE", "bye", {"id": 1})
    await notes.execute("delete from notes")
    change = await js.event("change")
    assert (change["eventType"], change["new"], change["old"]) == ("DELETE", {}, {"id": 1})


async def test_filters_and_several_subscriptions(client, notes):
    """Each subscription of a channel gets its own changes."""
    js = await client("ann")
    await subscribe(
        js, {**NOTES_CHANGES, "event": "INSERT", "filter": "number=in.(1,2)"}, {**NOTES_CHANGES, "event": "DELETE"}
    )
    await notes.execute("insert into notes (number) values (3), (2)")
    assert (await js.event("change"))["new"]["number"] == 2
    await notes.execute("delete from notes where number = 3")
    assert (await js.event("change"))["eventType"] == "DELETE"


async def test_operators_with_different_rights_see_different_rows(client, notes):
    """Row-level security decides by the claims of each operator's token."""
    ann, bob = await client("ann"), await client("bob")
    await subscribe(ann)
    await subscribe(bob)
    await notes.execute("insert into notes (owner, text) values ('bob', '1'), ('ann', '2'), ('all', '3')")
    assert [(await ann.event("change"))["new"]["text"] for _ in range(2)] == ["2", "3"]
    assert [(await bob.event("change"))["new"]["text"] for _ in range(2)] == ["1", "3"]


async def test_broadcasts(client):
    """Broadcasts go to others and, with `self`, to the sender; with `ack` a send waits for its reply; HTTP works."""
    ann, bob = await client("ann"), await client("bob")
    join = """
        state.room = state.client.channel("room", { config: { broadcast: { self: args.hears, ack: args.ack } } });
        state.room.on("broadcast", { event: "hello" }, (message) => emit("broadcast", message));
        state.room.subscribe((status) => emit("room", status));
    """
    await ann.run(join, hears=False, ack=True)
    await bob.run(join, hears=True, ack=False)
    assert await ann.event("room") == await bob.event("room") == "SUBSCRIBED"
    send = 'return await state.room.send({ type: "broadcast", event: "hello", payload: { n: args.n } });'
    assert await ann.run(send, n=1) == "ok"
    assert (await bob.event("broadcast"))["payload"] == {"n": 1}
    assert await bob.run(send, n=2) == "ok"
    assert (await bob.event("broadcast"))["payload"] == {"n": 2}
    assert (await ann.event("broadcast"))["payload"] == {"n": 2}
    await ann.run('await state.room.httpSend("hello", { n: 3 });')
    assert (await bob.event("broadcast"))["payload"] == {"n": 3}


async def test_presence(client):
    """Two clients get each other's joins, changes and leaves."""
    ann, bob = await client("ann"), await client("bob")
    join = """
        state.room = state.client.channel("room", { config: { presence: { key: args.name } } });
        state.room.on("presence", { event: "sync" }, () => emit("sync", state.room.presenceState()));
        state.room.on("presence", { event: "leave" }, ({ key }) => emit("leave", key));
        await new Promise((resolve) => state.room.subscribe((status) => status === "SUBSCRIBED" && resolve()));
        return await state.room.track({ at: args.at });
    """
    assert await ann.run(join, name="ann", at="desk") == "ok"
    assert await bob.run(join, name="bob", at="home") == "ok"
    for js in (ann, bob):
        while set(present := await js.event("sync")) != {"ann", "bob"}:
            pass
        assert (present["ann"][0]["at"], present["bob"][0]["at"]) == ("desk", "home")
    await bob.run("await state.room.untrack();")
    assert await ann.event("leave") == "bob"


async def test_a_private_channel(client, project):
    """A private channel joins where a policy allows it, and is rejected elsewhere."""
    await project.execute(
        "create policy p on realtime.messages to authenticated using (realtime.topic() = 'ours') with check (true)"
    )
    js = await client("ann")
    join = """
        const broadcast = { self: true, replication_ready: true };
        state[args.topic] = state.client.channel(args.topic, { config: { private: true, broadcast } });
        state[args.topic].on("broadcast", { event: "*" }, (message) => emit("broadcast", message));
        state[args.topic].on("system", {}, (payload) => emit("system", payload));
        state[args.topic].subscribe((status, error) => emit(args.topic, { status, error: error?.message ?? null }));
    """
    await js.run(join, topic="ours")
    assert (await js.event("ours"))["status"] == "SUBSCRIBED"
    await js.run(join, topic="theirs")
    rejected = await js.event("theirs")
    assert rejected["status"] == "CHANNEL_ERROR"
    assert "You do not have permissions to read from this Channel topic: theirs" in rejected["error"]
    await js.run('await state.ours.send({ type: "broadcast", event: "e", payload: { n: 1 } });')
    assert (await js.event("broadcast"))["payload"] == {"n": 1}
    assert (await js.event("system"))["message"] == REPLICATION_READY
    await project.execute("""select realtime.send('{"n": 2}', 'e', 'ours')""")
    message = await js.event("broadcast")
    assert message["payload"]["n"] == 2
    assert message["meta"]["id"] == message["payload"]["id"]


@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
async def test_a_channel_works_again_after_a_new_sign_in(project, notes, node, clock, vsn):
    """A channel with an expired token is closed with the reason; after a new sign-in a new channel works."""
    await project.operator("ann")
    js = await node()
    await js.run(SIGN_IN, url=project.url, key=project.key, email="ann", vsn=vsn)
    await subscribe(js)
    await clock.put_forward(AuthSettings().access_token_lifetime)
    while (system := await js.event("system"))["extension"] != "system":
        pass
    assert system["message"].startswith("Token has expired ")
    assert (await js.event("status"))["status"] == "CLOSED"
    clock.ahead = 0.0
    again = "await state.client.removeAllChannels();" + SIGN_IN
    await js.run(again, url=project.url, key=project.key, email="ann", vsn=vsn)
    await subscribe(js)
    await notes.execute("insert into notes (text) values ('again')")
    assert (await js.event("change"))["new"]["text"] == "again"
