"""This process as one of several API instances: its heartbeat, and the messages that other processes send it."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from onsembl.api.services import Services
from onsembl.fleet.instance_messages import Broadcast, InstanceMessage
from onsembl.fleet.listener import listen
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, InstanceId, OperatorId
from onsembl.protocol.messages import Leave
from onsembl.sql import agents, instances, operators
from onsembl.sql.database import DATABASE_ERRORS

logger = logging.getLogger(__name__)

AGENT_DISABLED = "This agent is disabled."
CREDENTIALS_REVOKED = "This agent's credentials are revoked."
REUSED = "A refresh token of this agent was used twice."


class Instance:
    """Applies the messages to this instance and the broadcasts to all instances.

    Sends to agents run in the background, so that an agent whose connection is full delays no other message.
    """

    def __init__(self, services: Services, instance_id: InstanceId) -> None:
        self._services = services
        self._hub = services.hub
        self._start = services.background_tasks.start
        self._id = instance_id

    async def send_heartbeats(self) -> None:
        """Write the instance's heartbeat at each interval, until cancelled."""
        settings = self._services.settings
        while True:
            await asyncio.sleep(settings.instance_heartbeat)
            try:
                async with self._services.pool.connection() as conn:
                    await instances.heartbeat(conn, self._id, settings.address)
            except DATABASE_ERRORS as error:
                logger.warning(
                    "The instance's heartbeat could not be written: %s", error, extra={"action": "heartbeat_failed"}
                )

    async def receive_messages(self) -> None:
        """Apply messages and broadcasts as they come, until cancelled."""
        channels = [instances.channel(self._id), instances.BROADCAST_CHANNEL]
        await listen(self._services.settings.database_url, channels, self._receive, self._catch_up)

    async def _receive(self, channel: str, payload: str) -> None:
        if channel == instances.BROADCAST_CHANNEL:
            await self._apply_broadcast(msgspec.json.decode(payload, type=Broadcast))
        else:
            await self._apply(msgspec.json.decode(payload, type=InstanceMessage))

    async def _catch_up(self) -> None:
        """Act as if every message had come again: the connection that listens was lost, and messages with it."""
        # The error that closed this connection closed the pool's too. They are replaced before a request uses one.
        await self._hub.pool.check()
        await self._services.agent_keys.load()
        await self._operator_keys_changed()
        await self._operator_changed(None)
        await self._hub.sync_halt_with_all(self._start)
        await self._disconnect_revoked_agents()
        self._start(self._hub.sync_all_agents())

    # Messages to this instance

    async def _apply(self, message: InstanceMessage) -> None:
        agent_id = AgentId(message.agent_id)
        link = self._hub.links.get(agent_id)
        match message.op:
            case "attend":
                self._start(self._hub.sync_agent(agent_id))
            case "superseded":
                if link is not None and message.epoch is not None and link.epoch < message.epoch:
                    reason = "The agent has connected to another instance."
                    self._hub.disconnect(agent_id, CloseCode.SUPERSEDED, reason)
            case "reused":
                await self._disconnect_agent(agent_id, CloseCode.TOKEN_REUSED, REUSED)
            case "credentials_ended":
                await self._disconnect_agent(agent_id, CloseCode.REVOKED, CREDENTIALS_REVOKED)
            case "leave" | "restart":
                if link is not None:
                    self._start(link.send(Leave(restart=message.op == "restart")))
            case "disabled":
                await self._disconnect_agent(agent_id, CloseCode.REVOKED, AGENT_DISABLED)

    async def _disconnect_agent(self, agent_id: AgentId, code: CloseCode, reason: str) -> None:
        """Close the agent's connection here, also one that is just being made."""
        async with self._hub.connecting[agent_id]:
            self._hub.disconnect(agent_id, code, reason)

    async def _disconnect_revoked_agents(self) -> None:
        """Close the connections of agents that were disabled or lost their credentials since they connected."""
        here = dict(self._services.presence.admitted)
        async with self._services.pool.connection() as conn:
            rows = await agents.revoked_since(conn, {agent_id: at.issued_at for agent_id, at in here.items()})
        for row in rows:
            agent_id = AgentId(row["id"])
            async with self._hub.connecting[agent_id]:
                if self._services.presence.admitted.get(agent_id) is here[agent_id]:
                    reason = AGENT_DISABLED if row["disabled"] else CREDENTIALS_REVOKED
                    self._hub.disconnect(agent_id, CloseCode.REVOKED, reason)

    # Broadcasts

    async def _apply_broadcast(self, broadcast: Broadcast) -> None:
        match broadcast.op:
            case "operator_changed":
                assert broadcast.operator_id is not None
                await self._operator_changed(OperatorId(broadcast.operator_id))
            case "keys_changed":
                await self._services.agent_keys.load()  # agents' sessions close themselves when their key is removed
            case "operator_keys_changed":
                await self._operator_keys_changed()
            case "halt_changed":
                await self._hub.sync_halt_with_all(self._start)

    async def _operator_keys_changed(self) -> None:
        """Read the built-in Auth's keys again. Sessions of viewers close themselves when their key is removed."""
        if self._services.builtin is not None:
            await self._services.builtin.reload_signing_keys()
            await self._services.operator_tokens.reload()

    async def _operator_changed(self, operator_id: OperatorId | None) -> None:
        """Read again whether this operator, or any, is disabled, and close the sockets of disabled operators."""
        self._services.forget(operator_id)
        async with self._services.pool.connection() as conn:
            disabled = await operators.disabled(conn)
        for viewer in list(self._hub.viewers):
            if viewer.operator_id in disabled:
                viewer.close(CloseCode.FORBIDDEN, "This operator is disabled.")
        if self._services.builtin is not None:
            for id in disabled if operator_id is None else disabled & {operator_id}:
                self._services.builtin.realtime.disconnect_user(str(id), CloseCode.NORMAL)
