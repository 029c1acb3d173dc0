"""This process as one of several API instances: its heartbeat, the messages that other processes send it, and the
comparison of the connections that it holds with the rows of their agents."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping

import msgspec

from onsembl.api.reason import reason_of
from onsembl.api.services import Services
from onsembl.api.terminals.hub import AgentLink
from onsembl.fleet.instance_messages import AgentConnected, Broadcast, InstanceMessage
from onsembl.fleet.listener import Listener
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, Epoch, InstanceId, OperatorId
from onsembl.protocol.messages import Leave
from onsembl.protocol.ownership import Differences, differences
from onsembl.realtime.builtin import BuiltinSupabase
from onsembl.sql import agents, instances, operators
from onsembl.sql.database import DATABASE_ERRORS, Pool

logger = logging.getLogger(__name__)

OPERATOR_DISABLED = "This operator is disabled."
AGENT_DISABLED = "This agent is disabled."
CREDENTIALS_REVOKED = "This agent's credentials are revoked."
REUSED = "A refresh token of this agent was used twice."
SUPERSEDED = "The agent has connected to another instance."
LET_IN_AGAIN = "This agent has been let in again: connect again."
TAKEN_FOR_LOST = "This connection was taken for lost: connect again."


class Instance:
    """Applies the messages to this instance and the broadcasts to all instances.

    Sends to agents run in the background, so that an agent whose connection is full delays no other message.
    """

    def __init__(self, services: Services, instance_id: InstanceId, listener: Listener, pool: Pool) -> None:
        """`pool` has connections for the heartbeat alone, which does not wait for requests."""
        self._listener = listener
        self._services = services
        self._pool = pool
        self._hub = services.hub
        self._start = services.background_tasks.start
        self._id = instance_id
        self._beaten = asyncio.Event()

    async def send_heartbeats(self) -> None:
        """Write the instance's heartbeat at each interval, until cancelled."""
        settings = self._services.settings
        while True:
            await asyncio.sleep(settings.instance_heartbeat)
            try:
                async with asyncio.timeout(settings.instance_dead_after / 2), self._pool.connection() as conn:
                    taken_for_dead = await instances.heartbeat(conn, self._id, settings.address)
            except (*DATABASE_ERRORS, TimeoutError) as error:
                logger.warning(
                    "The instance's heartbeat could not be written: %s",
                    reason_of(error),
                    extra={"action": "heartbeat_failed"},
                )
                continue
            if taken_for_dead:
                logger.warning(
                    "Workers took this instance for dead: its agents have to connect again",
                    extra={"action": "instance_taken_for_dead"},
                )
            self._beaten.set()

    async def compare_connections(self) -> None:
        """After each heartbeat, compare the connections that this instance holds with the rows of their agents, until
        cancelled.

        A connection that the database counts as lost or replaced is closed, and an agent whose connection has ended is
        marked offline. Viewers of an agent that is connected elsewhere leave. Agents are sent the answers again that
        they have not taken.
        """
        while True:
            await self._beaten.wait()
            self._beaten.clear()
            try:
                found = await self._differences(self._hub.links)
                for agent_id in {*found.superseded, *found.lost, *found.gone}:
                    await self._correct(agent_id)
                await self._release_absent()
                await self._services.relays.check(self._hub.links)
                self._start(self._hub.repeat_answers())
            except DATABASE_ERRORS as error:
                logger.warning(
                    "The agents' rows could not be compared: %s", error, extra={"action": "comparison_failed"}
                )

    async def _correct(self, agent_id: AgentId) -> None:
        async with self._hub.connecting[agent_id]:  # no connection begins or ends meanwhile
            link = self._hub.links.get(agent_id)
            found = await self._differences({} if link is None else {agent_id: link})
            if agent_id in found.superseded:
                self._hub.disconnect(agent_id, CloseCode.SUPERSEDED, SUPERSEDED)
            elif agent_id in found.lost:
                self._hub.disconnect(agent_id, CloseCode.GOING_AWAY, TAKEN_FOR_LOST)
            elif agent_id in found.gone and not self._services.drain.is_moving(agent_id):
                await self._services.presence.disconnect(agent_id, found.gone[agent_id])
            else:
                return
        logger.warning(
            "An agent's connection and its row differed",
            extra={"action": "presence_corrected", "agent_id": str(agent_id)},
        )

    async def _differences(self, links: Mapping[AgentId, AgentLink]) -> Differences:
        held = {agent_id: link.epoch for agent_id, link in links.items()}
        async with self._services.pool.connection() as conn:
            return differences(self._id, held, await agents.presence(conn, self._id, held))

    async def receive_messages(self) -> None:
        """Apply messages and broadcasts as they come, until cancelled."""
        shared = [instances.BROADCAST_CHANNEL, instances.CONNECTIONS_CHANNEL, instances.FAILURES_CHANNEL]
        channels = [instances.channel(self._id), *shared]
        await self._listener.listen(channels, self._receive, self._catch_up)

    async def _receive(self, channel: str, payload: str) -> None:
        if channel == instances.BROADCAST_CHANNEL:
            await self._apply_broadcast(msgspec.json.decode(payload, type=Broadcast))
        elif channel == instances.CONNECTIONS_CHANNEL:
            self._agent_connected(msgspec.json.decode(payload, type=AgentConnected))
        elif channel == instances.FAILURES_CHANNEL:
            self._services.rate_limiter.failures.receive(payload)
        else:
            await self._apply(msgspec.json.decode(payload, type=InstanceMessage))

    async def _catch_up(self) -> None:
        """Act as if every message had come again: the connection that listens was lost, and messages with it."""
        if self._listener.lost:  # replace the pool's broken connections before a request uses one
            await self._hub.pool.check()
        await self._services.agent_keys.load()
        await self._operator_keys_changed()
        await self._operator_changed(None)
        await self._hub.sync_halt_with_all(self._start)
        await self._disconnect_revoked_agents()
        await self._release_terminals()
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
                    self._hub.disconnect(agent_id, CloseCode.SUPERSEDED, SUPERSEDED)
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
        """Close the agent's connection here, also one that is just being made. An agent that has been let in again,
        before this message came, is to connect again."""
        async with self._hub.connecting[agent_id]:
            admitted = self._services.presence.admitted.get(agent_id)
            if admitted is None:
                return
            async with self._services.pool.connection() as conn:
                revoked = await agents.revoked_since(conn, {agent_id: admitted.issued_at})
            if not revoked:
                code, reason = CloseCode.GOING_AWAY, LET_IN_AGAIN
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

    # Agents at other instances

    def _agent_connected(self, connected: AgentConnected) -> None:
        agent_id = AgentId(connected.agent_id)
        self._services.affinity.forget(agent_id)
        here = connected.instance_id == self._id
        if not here:
            self._hub.release(agent_id, Epoch(connected.epoch), elsewhere=True)
        self._services.relays.agent_connected(agent_id, Epoch(connected.epoch), here=here)

    async def _release_terminals(self) -> None:
        """Forget the terminals of the agents that have connected to other instances."""
        self._services.affinity.forget()
        async with self._services.pool.connection() as conn:
            epochs = await agents.epochs_elsewhere(conn, self._id, list(self._hub.terminals))
        for agent_id, epoch in epochs.items():
            self._hub.release(agent_id, epoch)
        await self._services.relays.check(self._hub.links)

    async def _release_absent(self) -> None:
        """Forget the terminals with viewers whose agents are connected elsewhere: their instance was taken for dead
        when the viewers came, or the message of its connection was lost."""
        absent = [id for id, terminal in self._hub.terminals.items() if terminal.viewers and id not in self._hub.links]
        if absent:
            for agent_id, owner in (await self._services.affinity.elsewhere(absent)).items():
                self._hub.release(agent_id, owner.epoch, elsewhere=True)

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
        """Read again whether this operator, or any, is disabled or has another role, and close the sockets that are no
        longer theirs."""
        self._services.forget(operator_id)
        async with self._services.pool.connection() as conn:
            disabled = await operators.disabled(conn)
        for link in [*self._hub.viewers, *self._services.event_feed.followers]:
            if link.operator_id in disabled:
                link.close(CloseCode.FORBIDDEN, OPERATOR_DISABLED)
            elif operator_id in (None, link.operator_id):
                self._start(link.authorize_again())
        if self._services.builtin is not None:
            disconnect_users(self._services.builtin, disabled if operator_id is None else {operator_id})


def disconnect_users(builtin: BuiltinSupabase, changed: Collection[OperatorId]) -> None:
    """Close the sockets of Realtime of operators who were changed, where this process serves them. Clients whose tokens
    still count reconnect; policies decide."""
    if builtin.realtime is not None:
        for operator_id in changed:
            builtin.realtime.disconnect_user(str(operator_id), CloseCode.NORMAL)
