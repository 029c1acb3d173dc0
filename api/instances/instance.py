"""This process as one instance of several: its row, its heartbeat, and what others tell it."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import psycopg
from psycopg_pool import PoolTimeout

from onsembl.api.instances.revocation import AGENT_DISABLED, CREDENTIALS_ENDED, disconnect_agent, obey, recheck
from onsembl.api.services import Services
from onsembl.fleet.instance_messages import Broadcast, InstanceMessage
from onsembl.fleet.listener import listen
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, InstanceId
from onsembl.protocol.messages import Leave
from onsembl.sql import instances
from onsembl.sql.database import Pool

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


async def take_messages(url: str, services: Services, instance_id: InstanceId) -> None:
    """Do what other processes ask of this one, until cancelled. No agent's full connection holds up what is next."""
    hub, background_tasks = services.hub, services.background_tasks

    async def take(channel: str, payload: str) -> None:
        if channel == instances.BROADCAST_CHANNEL:
            await obey(services, msgspec.json.decode(payload, type=Broadcast))
            return
        message = msgspec.json.decode(payload, type=InstanceMessage)
        agent_id = AgentId(message.agent_id)
        match message.op:
            case "attend":
                background_tasks.start(hub.sync_agent(agent_id))
            case "superseded":
                link = hub.links.get(agent_id)
                if link is not None and message.epoch is not None and link.epoch < message.epoch:
                    hub.close(agent_id, CloseCode.SUPERSEDED, "the agent has connected to another instance")
            case "reused":
                reason = "a refresh token of this agent was used twice"
                await disconnect_agent(services, agent_id, CloseCode.TOKEN_REUSED, reason)
            case "credentials_ended":
                await disconnect_agent(services, agent_id, CloseCode.REVOKED, CREDENTIALS_ENDED)
            case "leave" | "restart":
                link = hub.links.get(agent_id)
                if link is not None:
                    background_tasks.start(link.send(Leave(restart=message.op == "restart")))
            case "disabled":
                await disconnect_agent(services, agent_id, CloseCode.REVOKED, AGENT_DISABLED)

    async def catch_up() -> None:
        # What broke this connection broke the pool's too: they are replaced before a request finds out.
        await hub.pool.check()
        await recheck(services)
        background_tasks.start(hub.sync_all_agents())

    await listen(url, [instances.channel(instance_id), instances.BROADCAST_CHANNEL], take, catch_up)
