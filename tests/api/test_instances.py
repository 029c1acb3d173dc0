"""What an instance does when its connections and the rows of their agents differ, and what it tells of all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.agents import Operator, until
from support.api_calls import call_api
from support.command_line import CommandLine
from support.frames import HELLO_TEXT, attach, close_code, greet, next_message, read_bytes
from support.server import Enrolled, running

from onsembl.api.http.dashboard import version
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId
from onsembl.protocol.messages import encode_output
from onsembl.protocol.states import Role
from onsembl.sql import agents, instances
from onsembl.sql.database import connect


@pytest.mark.no_worker
async def test_connections_and_rows_that_differ_are_made_the_same(settings):
    """A connection that was taken for lost is closed, and its agent is online at its return; one that was replaced
    elsewhere is closed for ever; an agent whose connection is gone is marked offline. Others stay."""
    async with (
        running(replace(settings, instance_dead_after=1.0)) as api,
        await connect(api.database_url, role="onsembl_api", autocommit=True) as conn,
    ):
        lost, replaced, gone, right = [await api.enrol(name) for name in ("lost", "replaced", "gone", "right")]

        async def row(agent: Enrolled) -> dict:
            found = await agents.get(conn, AgentId(agent.id))
            assert found is not None
            return found

        async with (
            api.agent_socket(lost) as lost_socket,
            api.agent_socket(replaced) as replaced_socket,
            api.agent_socket(right) as right_socket,
        ):
            for socket in (lost_socket, replaced_socket, right_socket):
                await socket.send(HELLO_TEXT)
                await next_message(socket, "welcome")
            online = await row(right)
            await conn.execute("update agents set epoch = epoch + 1, instance_id = null where id = %s", [replaced.id])
            # As a sweep does.
            await conn.execute("update agents set status = 'offline', instance_id = null where id = %s", [lost.id])
            await conn.execute(
                "update agents set status = 'online', epoch = 7, instance_id = %s where id = %s",
                [online["instance_id"], gone.id],
            )
            assert await close_code(lost_socket) == CloseCode.GOING_AWAY
            assert not CloseCode.GOING_AWAY.is_permanent
            assert await close_code(replaced_socket) == CloseCode.SUPERSEDED

            async def is_offline() -> bool:
                return (await row(gone))["status"] == "offline"

            await until(is_offline, "the agent without a connection is offline")
            async with api.agent_socket(lost) as socket:
                await socket.send(HELLO_TEXT)
                assert (await next_message(socket, "welcome"))["epoch"] == 2
                assert (await row(lost))["status"] == "online"
            assert await row(right) == online


@pytest.mark.no_worker
async def test_each_instance_tells_of_all(settings, tmp_path):
    """Whichever is asked, the statistics are the sums over all that answer, and an admin sees each of them: also one
    that cannot be reached, and one that is silent."""
    settings = replace(settings, public_url="https://onsembl.example", instance_dead_after=600.0)
    async with running(settings, reachable=True) as one, running(settings, reachable=True) as two:
        account = await one.operator()
        agent = await one.enrol()
        ids = {str(api.services.presence.instance_id): api for api in (one, two)}
        async with await connect(one.database_url, autocommit=True) as conn:
            lost = str(await instances.register(conn, "127.0.0.1:1"))
            await instances.begin_drain(conn, lost)
            silent = str(await instances.register(conn, "127.0.0.1:2"))
            await conn.execute("update instances set heartbeat_at = now() - interval '1 hour' where id = %s", [silent])
        async with one.agent_socket(agent) as socket, two.terminal_socket(agent.id) as viewer:
            await greet(socket)
            await attach(viewer, account.access_token)
            await socket.send(encode_output(0, b"hello"))
            await read_bytes(viewer, 5)
            for api in (one, two):
                asked = Operator(api, account)
                statistics = await call_api(asked, "GET", "/v1/statistics")
                assert statistics["instances"] == sorted(ids)
                assert (statistics["agents"], statistics["viewers"], statistics["terminal_bytes"]) == (1, 1, 5)
                assert [pool["name"] for pool in statistics["pools"]] == ["database"]
                rows = {row["id"]: row for row in (await call_api(asked, "GET", "/v1/instances"))["instances"]}
                assert rows.keys() == {*ids, lost, silent}
                assert [(rows[id]["agents"], rows[id]["viewers"]) for id in ids] == [(1, 0), (0, 1)]
                for id, row in rows.items():
                    assert row["release"] == (version() if id in ids else None)
                    assert row["alive"] == (id != silent) and (row["heartbeat_age"] > 3000) == (id == silent)
                    assert (row["draining_since"] is not None) == (id == lost)
                    assert row["viewers"] is not None or id in (lost, silent)
            said, _ = await CommandLine(one, account, tmp_path).run("instances")
        lines = {line.split()[0]: line for line in said.splitlines()}
        assert [lines[id].split()[1] for id in (*ids, lost, silent)] == ["alive", "alive", "draining", "dead"]
        assert ["1 agents, 0 viewers" in lines[id] for id in ids] == [True, False]
        assert "does not answer" in lines[lost]
        await call_api(Operator(one, await one.operator(Role.OPERATOR)), "GET", "/v1/instances", status=403)
