"""What an instance does when its connections and the rows of their agents differ."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.agents import until
from support.frames import HELLO_TEXT, close_code, next_message
from support.server import Enrolled, running

from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId
from onsembl.sql import agents
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
