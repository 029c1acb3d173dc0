"""The agents and terminals of this process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import msgspec
from psycopg.rows import DictRow

from onsembl.api.terminals.archiver import Archiver
from onsembl.api.terminals.terminal import Size, Terminal
from onsembl.protocol import request_ids
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, CommandId, Epoch, OperatorId, StreamId
from onsembl.protocol.limits import CommandLimits
from onsembl.protocol.messages import Cancel, KeysTaken, Offer, ServerToAgentMessage
from onsembl.protocol.states import CommandState
from onsembl.sql import commands
from onsembl.sql.database import Pool

logger = logging.getLogger(__name__)


OFFER_AGAIN_SECONDS = 1.0
"""An offer is not lost on the connection that it was made on: whoever asks for it again so soon need not."""


class AgentLink(Protocol):
    """The connection of one agent, as the rest of the process sees it."""

    epoch: Epoch
    boot: UUID | None
    offered: tuple[CommandId, float] | None
    """The last command that was offered over it, and when, by the monotonic clock."""

    async def send(self, message: ServerToAgentMessage) -> None:
        """Send a control message; a connection that is gone swallows it, for the agent will return."""
        ...

    def close(self, code: CloseCode, reason: str) -> None:
        """End the connection with this code."""
        ...


class ViewerLink(Protocol):
    """The connection of one viewer."""

    delivered: int
    """Frames of terminal bytes that it was given as they came."""

    @property
    def operator_id(self) -> OperatorId:
        """Whose it is."""
        ...

    def close(self, code: CloseCode, reason: str) -> None:
        """End the connection with this code."""
        ...


class Typing(Protocol):
    """What one page types into the terminal of one agent."""

    agent_id: AgentId

    def taken(self, message: KeysTaken) -> None:
        """The agent has answered."""
        ...

    async def again(self, boot: UUID | None) -> None:
        """The agent is connected again, as this run of its program."""
        ...


@dataclass
class Hub:
    """Who is connected here, and the terminals that viewers read."""

    pool: Pool
    ring_bytes: int
    archiver: Archiver
    links: dict[AgentId, AgentLink] = field(default_factory=dict[AgentId, AgentLink])
    terminals: dict[AgentId, Terminal] = field(default_factory=dict[AgentId, Terminal])
    viewers: set[ViewerLink] = field(default_factory=set[ViewerLink])
    delivered_before: int = 0
    """Frames that viewers who have left were given."""
    typing: dict[UUID, Typing] = field(default_factory=dict[UUID, Typing])
    """The pages that have typed something, by their own id."""
    connecting: defaultdict[AgentId, asyncio.Lock] = field(
        default_factory=lambda: defaultdict[AgentId, asyncio.Lock](asyncio.Lock)
    )
    """Held while an agent's connection is made or ended, so that two of one agent cannot interleave."""

    def terminal(self, agent_id: AgentId, stream_id: StreamId | None, start: int, size: Size) -> Terminal:
        """The agent's terminal; an empty one, at `start` of its stream, if nothing of it came here yet."""
        terminal = self.terminals.get(agent_id)
        if terminal is None:
            terminal = Terminal(self.ring_bytes, self.archiver, stream_id, start, size)
            self.terminals[agent_id] = terminal
        return terminal

    def close(self, agent_id: AgentId, code: CloseCode, reason: str) -> None:
        """End the agent's connection here, if there is one; it is forgotten at once and reads no further."""
        link = self.links.pop(agent_id, None)
        if link is not None:
            link.close(code, reason)

    def forget(self, agent_id: AgentId, link: AgentLink) -> bool:
        """The connection has ended by itself; whether it was the agent's present one."""
        if self.links.get(agent_id) is not link:
            return False
        del self.links[agent_id]
        return True

    def viewer_left(self, viewer: ViewerLink) -> None:
        """Its connection is over."""
        if viewer in self.viewers:
            self.viewers.remove(viewer)
            self.delivered_before += viewer.delivered

    @property
    def delivered(self) -> int:
        """Frames of terminal bytes that viewers were given; it never falls."""
        return self.delivered_before + sum(viewer.delivered for viewer in self.viewers)

    def taken(self, message: KeysTaken) -> None:
        """An agent has answered what a page has typed."""
        page = self.typing.get(message.client_id)
        if page is not None:
            page.taken(message)

    async def resend_keys(self, agent_id: AgentId, boot: UUID | None) -> None:
        """An agent is connected: what it did not answer comes again."""
        for page in list(self.typing.values()):
            if page.agent_id == agent_id:
                await page.again(boot)

    async def dispatch(self, row: DictRow) -> bool:
        """Send a command's agent what that needs, by its row; False when the agent is not connected here.

        Whoever has just changed the row may do it ahead of the command's job, which sees to it that the agent has it.
        """
        link = self.links.get(row["agent_id"])
        if link is None:
            return False
        await _send_due_message(link, row)
        return True

    async def sync_agent(self, agent_id: AgentId) -> bool:
        """Send the agent what its active command needs; False when it is not connected here."""
        link = self.links.get(agent_id)
        if link is None:
            return False
        async with self.pool.connection() as conn:
            rows = await commands.active(conn, [agent_id])
        for row in rows:
            await _send_due_message(link, row)
        return True

    async def sync_all_agents(self) -> None:
        """As `attend`, for every agent here: after notices may have been missed."""
        async with self.pool.connection() as conn:
            rows = await commands.active(conn, list(self.links))
        links = [(self.links.get(row["agent_id"]), row) for row in rows]
        # One agent's full connection keeps no other waiting.
        await asyncio.gather(*(_send_due_message(link, row) for link, row in links if link is not None))


async def _send_due_message(link: AgentLink, row: DictRow) -> None:
    if not CommandState(row["state"]).is_active:
        return
    if row["cancel_requested_at"] is not None:
        # Also to an agent that may not have accepted it yet: it then never starts it.
        message = Cancel(command_id=row["id"], reason=row["cancel_reason"], limit=row["limit_passed"])
    elif row["state"] == CommandState.DISPATCHED:
        now = time.monotonic()
        if link.offered is not None and link.offered[0] == row["id"] and now < link.offered[1] + OFFER_AGAIN_SECONDS:
            return
        link.offered = (row["id"], now)
        limits = msgspec.convert(row["limits"], CommandLimits)
        message = Offer(command_id=row["id"], text=row["text"], limits=limits, request_id=row["request_id"])
    else:
        return
    with request_ids.in_force(row["request_id"]):
        sent = "offer" if isinstance(message, Offer) else "cancel"
        logger.info(
            "An agent is sent a command's %s",
            sent,
            extra={"action": f"{sent}_sent", "command_id": str(row["id"]), "agent_id": str(row["agent_id"])},
        )
        await link.send(message)
