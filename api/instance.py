"""This process as one instance of several: its row, its heartbeat, and what others tell it."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import psycopg
from psycopg_pool import PoolTimeout

from onsembl.api.hub import Hub
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, InstanceId
from onsembl.sql import instances
from onsembl.sql.database import Pool
from onsembl.tasks.delivery import Notice
from onsembl.tasks.listener import listen

logger = logging.getLogger(__name__)


async def keep_alive(pool: Pool, instance_id: InstanceId, address: str, interval: float) -> None:
    """Say every `interval` seconds that this instance lives, until cancelled."""
    while True:
        await asyncio.sleep(interval)
        try:
            async with pool.connection() as conn:
                await instances.heartbeat(conn, instance_id, address)
        except (psycopg.Error, PoolTimeout) as error:
            logger.warning("A heartbeat could not be written: %s", error, extra={"action": "heartbeat_failed"})


async def take_notices(url: str, hub: Hub, instance_id: InstanceId) -> None:
    """Do what other processes ask of this one's agents, until cancelled."""

    async def take(_channel: str, payload: str) -> None:
        notice = msgspec.json.decode(payload, type=Notice)
        agent_id = AgentId(notice.agent_id)
        match notice.op:
            case "attend":
                await hub.attend(agent_id)
            case "superseded":
                link = hub.links.get(agent_id)
                if link is not None and notice.epoch is not None and link.epoch < notice.epoch:
                    hub.close(agent_id, CloseCode.SUPERSEDED, "the agent has connected to another instance")
            case "reused":
                hub.close(agent_id, CloseCode.TOKEN_REUSED, "a refresh token of this agent was used twice")
            case "disabled":
                hub.close(agent_id, CloseCode.REVOKED, "this agent is disabled")

    async def catch_up() -> None:
        # What broke this connection broke the pool's too: they are replaced before a request finds out.
        await hub.pool.check()
        await hub.attend_all()

    await listen(url, [instances.channel(instance_id)], take, catch_up)
