"""The terminals that this instance relays from others to its viewers, and where each agent is.

There is one connection to each instance that has agents which are watched here, and one ring for each of these agents,
however many viewers it has. The relay follows an agent that connects elsewhere, and an owner that is lost, by the
messages of `AgentConnected`; it looks for itself as well, after each heartbeat. The epoch fences it: an owner of an
earlier epoch than is known here is not listened to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from onsembl.api.auth.instance_tokens import InstanceTokens
from onsembl.api.instances.affinity import Affinity
from onsembl.api.instances.relay_connection import RelayChannel, RelayConnection, RelayFailed, connect_to
from onsembl.api.instances.relayed_terminal import RelayedTerminal
from onsembl.api.terminals.looks import ANSWER_SECONDS, AgentSilent, LookFailed
from onsembl.protocol.files import FileRules, Seen
from onsembl.protocol.ids import AgentId, Epoch, InstanceId
from onsembl.protocol.relay_messages import OwnStatistics
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import DATABASE_ERRORS
from onsembl.sql.instances import Owner

logger = logging.getLogger(__name__)

ATTACH_SECONDS = 5.0
"""How long a new viewer waits for the owner's answer, and the relay for the answer of a later owner."""
FOLLOW_SECONDS = 15.0
"""How long viewers wait for an agent whose owner is lost, before they are told to attach again."""
LOOK_AGAIN_SECONDS = 0.25
LINGER_SECONDS = 5.0
"""How long an agent is relayed that nobody watches, and a connection kept that nothing uses."""


class Served(Protocol):
    """A terminal that is sent to another instance."""

    agent_id: AgentId


@dataclass(frozen=True, slots=True)
class _Watched:
    connection: RelayConnection
    channel: RelayChannel


class Relays:
    """The relayed terminals of one process, and its connections to other instances."""

    def __init__(self, affinity: Affinity, tokens: InstanceTokens, public_url: str, ring_bytes: int) -> None:
        self._affinity = affinity
        self._tokens = tokens
        self._public_url = public_url
        self._ring_bytes = ring_bytes
        self.terminals: dict[AgentId, RelayedTerminal] = {}
        self._followers: dict[RelayedTerminal, asyncio.Task[None]] = {}
        self._watched: dict[RelayedTerminal, _Watched] = {}
        self._connecting: dict[InstanceId, asyncio.Task[RelayConnection]] = {}
        self._running: dict[InstanceId, tuple[RelayConnection, asyncio.Task[None]]] = {}
        self._lingering: dict[object, asyncio.TimerHandle] = {}
        self._received_before = 0
        self.served: set[Served] = set()
        """The streams that other instances relay from this one."""
        self.sent = 0
        """Bytes of terminals that were sent to other instances."""

    @property
    def connections(self) -> int:
        """The connections to other instances."""
        return len(self._running)

    @property
    def received(self) -> int:
        """Bytes of terminals that came from other instances. The number never falls."""
        return self._received_before + sum(connection.received for connection, _ in self._running.values())

    # For viewers and requests

    async def terminal(self, agent_id: AgentId, owner: Owner) -> RelayedTerminal:
        """The terminal of an agent that is connected to `owner`. Raises RelayFailed."""
        terminal = self.terminals.get(agent_id)
        if terminal is None:
            terminal = RelayedTerminal(self._ring_bytes, agent_id, self._viewers_changed)
            self.terminals[agent_id] = terminal
            self._followers[terminal] = asyncio.create_task(self._relay(terminal, owner), name=f"relay of {agent_id}")
        try:
            async with asyncio.timeout(ATTACH_SECONDS):
                await terminal.attached.wait()
        except TimeoutError:
            pass
        finally:
            self._viewers_changed(terminal)  # the viewer may have left meanwhile
        if not terminal.attached.is_set() or terminal.ended:
            raise RelayFailed("the agent's instance does not relay its terminal")
        return terminal

    async def look(self, agent_id: AgentId, path: str, rules: FileRules) -> Seen:
        """What the path names on the machine of an agent at another instance. Raises LookFailed, psycopg.Error or
        PoolTimeout."""
        owner = (await self._affinity.elsewhere([agent_id])).get(agent_id)
        if owner is None:
            raise LookFailed("The agent has just moved. Try again.")
        try:
            connection = await self._connection(owner)
            try:
                async with asyncio.timeout(ANSWER_SECONDS + 1.0):
                    looked = await connection.look(agent_id, path, rules)
            finally:
                self._keep(connection)
        except RelayFailed as error:
            raise LookFailed(f"The agent's instance cannot be asked: {error}.") from error
        except TimeoutError as error:
            raise AgentSilent("The agent's instance did not answer in time.") from error
        if looked.seen is None:
            raise (AgentSilent if looked.silent else LookFailed)(looked.reason)
        return looked.seen

    async def statistics(self, instance: Owner) -> OwnStatistics:
        """The statistics of another instance. Raises RelayFailed."""
        connection = await self._connection(instance)
        try:
            return await connection.statistics()
        finally:
            self._keep(connection)

    # For messages between instances

    def agent_connected(self, agent_id: AgentId, epoch: Epoch, *, here: bool) -> None:
        """An agent has connected, under this epoch: leave its past owner, and follow it. An owner may be known before
        the messages of it and of earlier ones come."""
        terminal = self.terminals.get(agent_id)
        if terminal is None or epoch < terminal.epoch:
            return
        if here:
            self._stop(terminal)
        elif terminal.epoch < epoch:
            terminal.epoch = epoch
            self._unwatch(terminal)

    async def check(self, held: Collection[AgentId]) -> None:
        """Compare the owners with the agents' rows, and with the agents that are `held` here: a message may have been
        lost. Raises psycopg.Error or PoolTimeout."""
        for agent_id in self.terminals.keys() & set(held):
            self.agent_connected(agent_id, self.terminals[agent_id].epoch, here=True)
        if not self.terminals:
            return
        for agent_id, owner in (await self._affinity.elsewhere(list(self.terminals))).items():
            self.agent_connected(agent_id, owner.epoch, here=False)

    async def stop(self) -> None:
        """End everything, when the process stops."""
        await cancel_until_done([*self._followers.values(), *self._connecting.values()])
        await cancel_until_done([task for _, task in self._running.values()])
        for timer in self._lingering.values():
            timer.cancel()

    # One terminal

    async def _relay(self, terminal: RelayedTerminal, owner: Owner | None) -> None:
        """Relay a terminal from its owners, one after the other, until nobody watches it or there is none."""
        loop = asyncio.get_running_loop()
        lost_at, pause = loop.time(), 0.0
        try:
            while not terminal.ended:
                terminal.moved.clear()
                began = loop.time()
                if owner is not None and await self._relay_from(owner, terminal):
                    lost_at = loop.time()
                    pause = 0.0 if lost_at > began + LOOK_AGAIN_SECONDS else pause
                if not terminal.attached.is_set() or loop.time() > lost_at + FOLLOW_SECONDS:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await terminal.moved.wait()
                pause = LOOK_AGAIN_SECONDS
                owner = await self._owner_of(terminal)
        finally:
            self._stop(terminal)
            del self._followers[terminal]

    async def _relay_from(self, owner: Owner, terminal: RelayedTerminal) -> bool:
        """Relay until the owner sends no more; return whether it has sent the terminal at all."""
        try:
            connection = await self._connection(owner)
            if terminal.ended or owner.epoch < terminal.epoch:  # the agent has moved meanwhile
                return False
            terminal.epoch = owner.epoch
            channel = connection.watch(terminal, owner.epoch)
        except RelayFailed as error:
            self._log_failure(terminal, str(error))
            return False
        self._watched[terminal] = _Watched(connection, channel)
        try:
            async with asyncio.timeout(ATTACH_SECONDS):
                await channel.answered.wait()
            await channel.ended.wait()
        except TimeoutError:
            self._log_failure(terminal, f"{owner.address} does not answer in time")
        finally:
            del self._watched[terminal]
            connection.unwatch(channel)
            self._keep(connection)
        return channel.watched

    def _log_failure(self, terminal: RelayedTerminal, reason: str) -> None:
        logger.warning(
            "An agent's terminal cannot be relayed: %s",
            reason,
            extra={"action": "relay_failed", "agent_id": str(terminal.agent_id)},
        )

    async def _owner_of(self, terminal: RelayedTerminal) -> Owner | None:
        """The instance at which the agent is connected now; None when that is none, this one or a past one."""
        try:
            owner = (await self._affinity.elsewhere([terminal.agent_id])).get(terminal.agent_id)
        except DATABASE_ERRORS as error:
            logger.warning("An agent's instance cannot be read: %s", error, extra={"action": "affinity_failed"})
            return None
        return owner if owner is not None and owner.epoch >= terminal.epoch else None

    def _unwatch(self, terminal: RelayedTerminal) -> None:
        """Take no more from the present owner, and have the follower look again."""
        terminal.moved.set()
        if (watched := self._watched.get(terminal)) is not None:
            watched.connection.unwatch(watched.channel)

    def _stop(self, terminal: RelayedTerminal) -> None:
        """Relay this terminal no more; its viewers leave."""
        if self.terminals.get(terminal.agent_id) is terminal:
            del self.terminals[terminal.agent_id]
        self._end_linger(terminal)
        terminal.end()
        self._unwatch(terminal)

    def _viewers_changed(self, terminal: RelayedTerminal) -> None:
        """Relay a terminal that nobody watches only for a while."""
        self._end_linger(terminal)
        if not terminal.viewers and not terminal.ended:
            self._linger(terminal, self._stop, terminal)

    # Connections

    async def _connection(self, owner: Owner) -> RelayConnection:
        """The connection to an instance; all who wait for it share one attempt. Raises RelayFailed."""
        running = self._running.get(owner.instance_id)
        if running is not None and not running[0].closed:
            return running[0]
        attempt = self._connecting.get(owner.instance_id)
        if attempt is None:
            attempt = asyncio.create_task(self._connect(owner), name=f"connection to {owner.address}")
            self._connecting[owner.instance_id] = attempt
            attempt.add_done_callback(lambda _: self._connecting.pop(owner.instance_id, None))
        return await asyncio.shield(attempt)

    async def _connect(self, owner: Owner) -> RelayConnection:
        connection = await connect_to(owner, self._tokens, self._public_url)
        self._running[owner.instance_id] = (
            connection,
            asyncio.create_task(self._run(owner.instance_id, connection), name=f"relay from {owner.address}"),
        )
        self._keep(connection)
        return connection

    async def _run(self, instance_id: InstanceId, connection: RelayConnection) -> None:
        try:
            await connection.run()
        finally:
            self._end_linger(connection)
            self._received_before += connection.received
            if (running := self._running.get(instance_id)) is not None and running[0] is connection:
                del self._running[instance_id]

    def _keep(self, connection: RelayConnection) -> None:
        """Keep a connection that nothing uses only for a while."""
        self._end_linger(connection)
        if not connection.closed:
            self._linger(connection, self._close_idle, connection)

    def _close_idle(self, connection: RelayConnection) -> None:
        for other, task in self._running.values():
            if other is connection and connection.idle:
                task.cancel()

    def _linger(self, what: object, end: Callable[[Any], None], of: object) -> None:
        self._lingering[what] = asyncio.get_running_loop().call_later(LINGER_SECONDS, end, of)

    def _end_linger(self, what: object) -> None:
        if (timer := self._lingering.pop(what, None)) is not None:
            timer.cancel()
