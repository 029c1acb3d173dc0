"""Supabase's client whose socket the server closes, or whose channels it starts anew: it goes on by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from support.agents import until
from support.server import PASSWORD, running

from onsembl.api.settings import Settings

from .channels.conftest import IMPATIENT, NOTES
from .conftest import running_project

if TYPE_CHECKING:
    from .conftest import Node

FOLLOW = """
    state.client = createClient(args.url, args.key, { auth: { persistSession: false, autoRefreshToken: false } });
    const { data } = await state.client.auth.signInWithPassword({ email: args.email, password: args.password });
    await state.client.realtime.setAuth();
    state.channel = state.client.channel("onsembl-fleet-1", { config: { private: args.private } });
    state.channel.on("postgres_changes", { event: "*", schema: args.schema, table: args.table },
        (payload) => emit("change", payload.new[args.column]));
    state.channel.on("system", {}, (payload) => emit("system", payload.status));
    state.channel.subscribe((status) => emit("status", status));
    return data.session.access_token;
"""


async def test_another_session_of_the_operator_ends(database_url: str, node: Any) -> None:
    """When one session of an operator ends, a page of another session connects again by itself and follows changes."""
    js: Node = await node()
    async with running(Settings(database_url=database_url, public_url="", worker=None)) as api:
        account = await api.operator()
        agent = await api.enrol()
        access = {"email": account.email, "password": PASSWORD, "private": True}
        rows = {"schema": "onsembl", "table": "agents", "column": "name"}
        await js.run(FOLLOW, url=api.url, key=await api.key(), **access, **rows)
        assert await js.event("status") == "SUBSCRIBED"
        assert await js.event("system") == "ok"
        headers = {**account.headers, "apikey": await api.key()}
        assert (await api.http.post("/auth/v1/logout?scope=local", headers=headers)).status_code == 204
        while await js.event("system") != "ok":
            pass
        admin = await api.sign_in(account.email)
        await api.http.post(f"/v1/agents/{agent.id}/disable", json={}, headers=admin.headers)
        assert await js.event("change") == agent.name
        await js.run("await state.client.removeAllChannels();")


async def test_a_page_that_was_suspended_is_caught_up(database_url: str, node: Any) -> None:
    """A client that does not read for a while keeps its socket, joins its channel again by itself, and follows changes
    from then on."""
    js: Node = await node()
    async with running_project(database_url, limits=replace(IMPATIENT, queue_bytes=1_000_000, idle=600.0)) as project:
        await project.execute(NOTES)
        email = await project.operator()
        access = {"email": email, "password": PASSWORD, "private": False}
        rows = {"schema": "public", "table": "notes", "column": "number"}
        await js.run(FOLLOW, url=project.url, key=project.key, **access, **rows)
        assert await js.event("status") == "SUBSCRIBED"
        assert await js.event("system") == "ok"
        (socket,) = project.builtin.realtime.sockets
        js.suspend()
        insert = "insert into notes (owner, text) select 'all', repeat('x', 200000) from generate_series(1, 20)"

        async def lagging() -> bool:
            await project.execute(insert)
            return project.builtin.realtime.counters.sockets_lagging == 1

        await until(lagging, "the server to note that the client does not read")
        js.resume()
        while await js.event("status") != "SUBSCRIBED":
            pass
        while await js.event("system") != "ok":
            pass
        await project.execute("insert into notes (owner, number) values ('all', 7)")
        while await js.event("change") != 7:
            pass
        assert list(project.builtin.realtime.sockets) == [socket]
        await js.run("await state.client.removeAllChannels();")
