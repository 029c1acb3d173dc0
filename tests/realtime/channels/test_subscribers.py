"""Subscribers when the stream of changes is lost."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from support.folders import copy_folder, data_folder
from support.postgres import server_of
from websockets.exceptions import ConnectionClosed

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.realtime.channels import app
from onsembl.sql.database import connect, create_pool

from .conftest import IMPATIENT, NOTES, PATIENCE, open_wire

ALL_NOTES = {"event": "*", "schema": "public", "table": "notes"}
MIRROR = """
    state.client = createClient(args.url, args.key, { auth: { persistSession: false, autoRefreshToken: false } });
    await state.client.auth.signInWithPassword({ email: "ann", password: "correct horse battery" });
    await state.client.realtime.setAuth();
    state.channel = state.client.channel("mirror");
    state.numbers = {};
    state.channel.on("postgres_changes", { event: "*", schema: "public", table: "notes" },
        (payload) => { state.numbers[payload.new.id] = payload.new.number; });
    state.channel.on("system", {}, (payload) => emit("system", payload.status));
    state.failed = 0;
    state.channel.subscribe((status) => {
        if (status !== "SUBSCRIBED") state.failed += 1;
        if (status === "SUBSCRIBED") state.numbers = {}; // what was known may be old
        emit("status", status);
    });
"""


async def test_subscribers_reconnect_by_themselves(own_postgres, serve_project, node):
    """After a restart of Postgres under load, the unmodified client subscribes again at its first attempt, and then
    misses no change."""
    async with serve_project(database_url=own_postgres.url(), limits=IMPATIENT) as project:
        await project.operator("ann")
        async with await connect(own_postgres.url(), autocommit=True) as conn:
            await conn.execute(NOTES)
            await conn.execute("insert into notes (number) select 0 from generate_series(1, 20)")
        js = await node()
        await js.run(MIRROR, url=project.url, key=project.key)
        assert await js.event("status") == "SUBSCRIBED"
        assert await js.event("system") == "ok"

        stop = asyncio.Event()
        written = {}

        async def load() -> None:
            n = 0
            while not stop.is_set():
                try:
                    async with await connect(own_postgres.url(), autocommit=True) as conn:
                        while not stop.is_set():
                            n += 1
                            await conn.execute("update notes set number = %s where id = %s", [n, n % 20 + 1])
                            written[n % 20 + 1] = n
                            await asyncio.sleep(0.005)
                except psycopg.Error:
                    await asyncio.sleep(0.05)

        loading = asyncio.create_task(load())
        try:
            await asyncio.sleep(0.5)
            await asyncio.to_thread(own_postgres.stop, signal.SIGQUIT)
            await asyncio.to_thread(own_postgres.start)
            failed = await js.run("return state.failed;")
            back = time.monotonic()
            while await js.event("status") != "SUBSCRIBED":
                pass
            assert await js.event("system") == "ok"
            print(f"subscribed again after {time.monotonic() - back:.1f} s")
            # One attempt may have been in progress.
            failed = await js.run("return state.failed;") - failed
            assert failed <= 1
            # As the page does: read everything once changes arrive, and apply the changes from then on.
            async with await connect(own_postgres.url()) as conn:
                cursor = await conn.execute("select id, number from notes")
                snapshot = {str(row["id"]): int(row["number"]) for row in await cursor.fetchall()}
            await js.run("state.numbers = { ...args.snapshot, ...state.numbers };", snapshot=snapshot)
            await asyncio.sleep(0.5)
        finally:
            stop.set()
            await loading
        wanted, numbers = {str(id_): n for id_, n in written.items()}, {}
        give_up = time.monotonic() + PATIENCE
        while numbers != wanted and time.monotonic() < give_up:
            numbers = await js.run("return state.numbers;")
            await asyncio.sleep(0.05)
        assert numbers == wanted


async def test_only_subscribers_are_disconnected(own_postgres, serve_project, monkeypatch):
    """A socket without subscriptions stays open, and its broadcasts work without a database."""
    monkeypatch.setattr(app, "create_pool", functools.partial(create_pool, patience=1.0))
    async with serve_project(database_url=own_postgres.url(), limits=IMPATIENT) as project:
        async with await connect(own_postgres.url(), autocommit=True) as conn:
            await conn.execute(NOTES + "grant select on notes to service_role")
        async with open_wire(project.url, project.secret) as subscriber, open_wire(project.url, project.key) as other:
            await subscriber.subscribe(project.secret, ALL_NOTES)
            await other.join("room", broadcast={"self": True})
            await asyncio.to_thread(own_postgres.stop)
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    await asyncio.wait_for(subscriber.connection.recv(), PATIENCE)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1012
            await other.send("realtime:room", "broadcast", {"event": "e", "payload": {}})
            await other.expect("broadcast")
            ref = await other.send("realtime:private", "phx_join", {"config": {"private": True}}, join_ref="1")
            assert (await other.reply(ref))["response"]["reason"].startswith("UnableToConnectToProject: ")
            await asyncio.to_thread(own_postgres.start)


async def test_the_first_change_after_a_restart_ends_no_subscription(own_postgres, serve_project):
    """After a restart of Postgres, clients join private channels again at the first attempt, with and without filters,
    and keep their subscriptions: the first change reaches each of them."""
    async with serve_project(database_url=own_postgres.url(), limits=IMPATIENT) as project:
        await project.execute(NOTES + "grant select on notes to service_role")
        filtered = {**ALL_NOTES, "filter": "owner=eq.ann"}
        for restart in (False, True):
            if restart:
                await asyncio.to_thread(own_postgres.stop, signal.SIGQUIT)
                await asyncio.to_thread(own_postgres.start)
            async with open_wire(project.url, project.secret) as plain, open_wire(project.url, project.secret) as other:
                await plain.subscribe(project.secret, ALL_NOTES, private=True)
                await other.subscribe(project.secret, filtered, private=True)
                for number in range(2):
                    await project.execute(f"insert into notes (number) values ({number})")
                    assert [(await one.change())["record"]["number"] for one in (plain, other)] == [number, number]


@pytest.fixture
def without_the_log(server_cluster: Path) -> Iterator[EmbeddedPostgres]:
    """A server without logical replication."""
    with data_folder() as folder:
        copy_folder(server_cluster, folder)
        server = server_of(folder, {"fsync": "off", "wal_level": "replica"})
        server.start()
        yield server
        server.stop(signal.SIGQUIT)


async def test_the_outbox_replaces_an_unavailable_log(without_the_log, serve_project, caplog):
    """Without the write-ahead log, changes and database broadcasts arrive by the outbox, which is logged once; with the
    log, the outbox is removed."""
    caplog.set_level(logging.WARNING)
    url = without_the_log.url()
    async with serve_project(database_url=url, limits=IMPATIENT) as project:
        await project.operator("ann")
        token = (await project.sign_in("ann"))["access_token"]
        async with await connect(url, autocommit=True) as conn:
            await conn.execute(NOTES + "create policy p on realtime.messages for select to authenticated using (true)")
        async with open_wire(project.url, project.key) as wire:
            await wire.subscribe(token, ALL_NOTES)
    async with serve_project(database_url=url, limits=IMPATIENT) as project:
        token = (await project.sign_in("ann"))["access_token"]
        async with open_wire(project.url, project.key) as wire, await connect(url, autocommit=True) as conn:
            await wire.subscribe(token, ALL_NOTES)
            await conn.execute(
                "insert into notes (owner, text, tags) values ('eve', 'no', null), ('ann', 'yes', '{a}')"
            )
            data = await wire.change()
            assert (data["type"], data["record"]["text"], data["record"]["tags"]) == ("INSERT", "yes", ["a"])
            await conn.execute("update notes set number = 1.5 where owner = 'ann'")
            data = await wire.change()
            assert (data["record"]["number"], data["old_record"]) == (1.5, {"id": 2})
            await conn.execute("delete from notes where owner = 'ann'")
            assert (await wire.change())["old_record"] == {"id": 2}
            await wire.join("room", token, private=True, broadcast={"replication_ready": True})
            await wire.expect("system", "realtime:room", extension="system")
            await conn.execute("""select realtime.send('{"n": 1}', 'e', 'room')""")
            assert (await wire.expect("broadcast"))["payload"]["n"] == 1
    logged = [record for record in caplog.records if getattr(record, "action", None) == "changes_from_outbox"]
    assert len(logged) == 2  # Two projects, once each.

    await asyncio.to_thread(without_the_log.stop)
    again = server_of(without_the_log._folder, {"fsync": "off", "wal_level": "logical"})
    await asyncio.to_thread(again.start)
    async with serve_project(database_url=url, limits=IMPATIENT) as project:
        token = (await project.sign_in("ann"))["access_token"]
        async with open_wire(project.url, project.key) as wire, await connect(url, autocommit=True) as conn:
            await wire.subscribe(token, ALL_NOTES)
            cursor = await conn.execute("select count(*) as n from pg_trigger where tgname = 'realtime_outbox'")
            assert await cursor.fetchone() == {"n": 0}
            await conn.execute("insert into notes (text) values ('by the log')")
            assert (await wire.change())["record"]["text"] == "by the log"
    await asyncio.to_thread(again.stop)
    without_the_log._process = None
