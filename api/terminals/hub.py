"""The hub: the agents, viewers and terminals of this process, and the messages that agents are sent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import msgspec
from psycopg.rows import DictRow

from onsembl.api.terminals.archiver import Archiver
from onsembl.api.terminals.looks import Looks
from onsembl.api.terminals.terminal import Terminal
from onsembl.api.terminals.viewed_terminal import Size
from onsembl.fleet.halt import halt_message
from onsembl.protocol import request_ids
from onsembl.protocol.attention_messages import Decision
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, CommandId, Epoch, OperatorId, StreamId
from onsembl.protocol.limits import CommandLimits, sent
from onsembl.protocol.messages import (
    Answer,
    Cancel,
    Halt,
    HaltLifted,
    KeysTaken,
    Offer,
    Redraw,
    ServerToAgentMessage,
    Steer,
)
from onsembl.protocol.states import CommandState
from onsembl.protocol.tool_rules import ToolRules
from onsembl.protocol.turn_messages import TurnSettings
from onsembl.sql import attention, commands, halts, steers
from onsembl.sql.audit import Actor
from onsembl.sql.database import Pool

logger = logging.getLogger(__name__)


OFFER_AGAIN_SECONDS = 1.0
"""An offer is not repeated on the same connection within this time: a connection does not lose messages."""
ANSWER_AGAIN_SECONDS = 5.0
"""An answer that an agent has not taken for this long is sent again, after each heartbeat of the instance."""


class AgentLink(Protocol):
    """The connection of one agent, as the rest of the process sees it."""

    agent_id: AgentId
    epoch: Epoch
    boot: UUID | None
    """The run of the agent's program, from its hello."""
    attempt: int | None
    """Which attempt of that run to connect this is."""
    actor: Actor
    """The agent, as the audit log names it."""
    takes_steers: bool
    """Whether the agent puts texts into a running turn."""
    takes_answers: bool
    """Whether the agent takes answers to its requests."""
    tells_work_clock: bool
    """Whether the agent knows all limits of this release, and reports how long a command waits."""
    takes_rules: bool
    """Whether the agent holds a turn to its rules."""
    takes_attachments: bool
    """Whether the agent gives files to its coding CLI."""
    branch: str | None
    """The git branch of the agent's working folder, as it told last."""
    offered: tuple[CommandId, float] | None
    """The last command that was offered over this connection, and when, by the monotonic clock."""
    problems: int
    """The number of the last problem that was applied."""

    async def send(self, message: ServerToAgentMessage) -> None:
        """Send a control message. A closed connection drops it: the agent is synchronized when it reconnects."""
        ...

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection with this code."""
        ...


class ViewerLink(Protocol):
    """The connection of one viewer, as the rest of the process sees it."""

    delivered: int
    """Frames of terminal bytes that were sent to the viewer."""

    @property
    def operator_id(self) -> OperatorId:
        """The operator who views."""
        ...

    @property
    def agent_id(self) -> AgentId:
        """The agent whose terminal is viewed."""
        ...

    async def authorize_again(self) -> None:
        """Close the connection unless the operator's access token still allows it, with the same role."""
        ...

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection with this code."""
        ...


class TypingPage(Protocol):
    """A page whose operator types into the terminal of one agent."""

    agent_id: AgentId

    def keys_answered(self, message: KeysTaken) -> None:
        """The agent has answered a keyboard message of this page."""
        ...

    async def resend_keys(self, boot: UUID | None) -> None:
        """The agent has reconnected, with this run of its program: send it the unanswered keyboard messages."""
        ...


@dataclass
class Hub:
    """The connections of this process, and the terminals that viewers read."""

    pool: Pool
    ring_bytes: int
    archiver: Archiver
    links: dict[AgentId, AgentLink] = field(default_factory=dict[AgentId, AgentLink])
    terminals: dict[AgentId, Terminal] = field(default_factory=dict[AgentId, Terminal])
    viewers: set[ViewerLink] = field(default_factory=set[ViewerLink])
    delivered_before: int = 0
    """Frames that were sent to viewers who have left."""
    received_before: int = 0
    """Bytes of output that came for terminals that are at other instances now."""
    looks: Looks = field(default_factory=Looks)
    typing_pages: dict[UUID, TypingPage] = field(default_factory=dict[UUID, TypingPage])
    """The pages whose operators have typed, by the page's client id."""
    connecting: defaultdict[AgentId, asyncio.Lock] = field(
        default_factory=lambda: defaultdict[AgentId, asyncio.Lock](asyncio.Lock)
    )
    """HeldBytes while an agent connects or disconnects, so that two connections of one agent cannot interleave."""

    def terminal(self, agent_id: AgentId, stream_id: StreamId | None, start: int, size: Size, epoch: Epoch) -> Terminal:
        """The agent's terminal. If this process has none yet, it is a new one that begins at byte `start`. `epoch` is
        that of the agent's newest connection."""
        terminal = self.terminals.get(agent_id)
        if terminal is None:
            terminal = Terminal(self.ring_bytes, self.archiver, stream_id, start, size)
            self.terminals[agent_id] = terminal
        terminal.epoch = max(terminal.epoch, epoch)
        return terminal

    def release(self, agent_id: AgentId, epoch: Epoch, *, elsewhere: bool = False) -> None:
        """Forget the terminal of an agent that has since connected to another instance, under this epoch, and close its
        viewers, who find it there.

        A terminal that was made after that connection began stays, unless the agent is still connected `elsewhere`.
        """
        terminal = self.terminals.get(agent_id)
        if terminal is None or terminal.epoch > epoch or (terminal.epoch == epoch and not elsewhere):
            return
        del self.terminals[agent_id]
        self.received_before += terminal.received
        terminal.end()

    def disconnect(self, agent_id: AgentId, code: CloseCode, reason: str) -> None:
        """Close the agent's connection, if it is here. It is removed at once, and reads no more frames."""
        link = self.links.pop(agent_id, None)
        if link is not None:
            self.looks.gone(link)
            link.close(code, reason)

    def remove_agent(self, link: AgentLink) -> bool:
        """Remove a connection that was closed; False when it was replaced or removed before."""
        self.looks.gone(link)
        if self.links.get(link.agent_id) is not link:
            return False
        del self.links[link.agent_id]
        return True

    def remove_viewer(self, viewer: ViewerLink) -> None:
        """Remove a viewer whose connection was closed."""
        if viewer in self.viewers:
            self.viewers.remove(viewer)
            self.delivered_before += viewer.delivered

    @property
    def delivered(self) -> int:
        """Frames of terminal bytes that were sent to viewers. The number never falls."""
        return self.delivered_before + sum(viewer.delivered for viewer in self.viewers)

    @property
    def received(self) -> int:
        """New bytes of output that agents have sent here. The number never falls."""
        return self.received_before + sum(terminal.received for terminal in self.terminals.values())

    @property
    def held_bytes(self) -> int:
        """Bytes of output that are in memory for viewers."""
        return sum(terminal.ring.end - terminal.ring.start for terminal in self.terminals.values())

    async def redraw(self, agent_id: AgentId, terminal: Terminal) -> None:
        """Have a full-screen program draw its screen again, since a viewer lacks the bytes that drew it."""
        link = self.links.get(agent_id)
        if link is not None:
            await link.send(Redraw())
        else:
            terminal.redraw_due = True

    def keys_answered(self, message: KeysTaken) -> None:
        """Pass an agent's answer to a keyboard message on to the page that sent the message."""
        page = self.typing_pages.get(message.client_id)
        if page is not None:
            page.keys_answered(message)

    async def resend_keys(self, agent_id: AgentId, boot: UUID | None) -> None:
        """Have every page send its unanswered keyboard messages again to an agent that has reconnected."""
        for page in list(self.typing_pages.values()):
            if page.agent_id == agent_id:
                await page.resend_keys(boot)

    # Commands

    async def dispatch(self, row: DictRow) -> bool:
        """Send the agent the offer or the cancel that this command's row calls for; False when the agent is not
        connected here.

        The code that has changed the row may call this ahead of the command's job. The job makes sure of the delivery.
        """
        link = self.links.get(row["agent_id"])
        if link is None:
            return False
        if row["turn"] is not None and row["state"] == CommandState.DISPATCHED:
            return await self.sync_agent(link.agent_id)  # the offer has the agent's rules, too
        await _send_due(link, row)
        return True

    async def sync_agent(self, agent_id: AgentId) -> bool:
        """Send the agent the offer or the cancel that its active command needs; False when it is not connected here."""
        link = self.links.get(agent_id)
        if link is None:
            return False
        async with self.pool.connection() as conn:
            rows = await commands.active(conn, [agent_id])
        for row in rows:
            await _send_due(link, row)
        await self.send_answers(link)
        await self.send_steers(link)  # among them reasons of denials, which come after these
        return True

    async def send_answers(self, link: AgentLink) -> None:
        """Send an agent the answers to its requests that its CLI has not been given: it gives each once."""
        if not link.takes_answers:
            return
        async with self.pool.connection() as conn:
            rows = await attention.waiting_answers(conn, link.agent_id)
        for row in rows:
            try:
                decision = msgspec.convert(row["decision"], Decision)
            except msgspec.ValidationError as error:  # it harms only its own request
                logger.warning(
                    "An answer cannot be read: %s",
                    error,
                    extra={"action": "answer_unreadable", "request": str(row["id"]), "agent_id": str(link.agent_id)},
                )
                continue
            await link.send(
                Answer(
                    request_id=row["id"],
                    command_id=row["command_id"],
                    digest=row["digest"],
                    decision=decision,
                    by=row["answered_by_name"],
                )
            )

    async def repeat_answers(self) -> None:
        """Send answers again that have waited for a while: the message that they are there may be lost."""
        async with self.pool.connection() as conn:
            agent_ids = await attention.agents_to_remind(conn, list(self.links), ANSWER_AGAIN_SECONDS)
        links = [self.links.get(agent_id) for agent_id in agent_ids]
        await asyncio.gather(*(self.send_answers(link) for link in links if link is not None))

    async def send_steers(self, link: AgentLink) -> None:
        """Send an agent the texts for its running turn, also those that it was given before: it takes each once."""
        if not link.takes_steers:
            return
        async with self.pool.connection() as conn:
            rows = await steers.give(conn, [link.agent_id])
        for row in rows:
            with request_ids.in_force(row["request_id"]):
                await link.send(Steer(command_id=row["steers"], steer_id=row["id"], text=row["text"]))

    async def sync_all_agents(self) -> None:
        """Synchronize every agent that is connected here, since messages between instances may have been missed."""
        async with self.pool.connection() as conn:
            rows = await commands.active(conn, list(self.links))
        links = [(self.links.get(row["agent_id"]), row) for row in rows]
        # All at once: an agent whose connection is full keeps no other agent waiting.
        await asyncio.gather(*(self._send_all_due(link, row) for link, row in links if link is not None))

    async def _send_all_due(self, link: AgentLink, row: DictRow) -> None:
        await _send_due(link, row)
        await self.send_answers(link)
        await self.send_steers(link)

    # The emergency stop

    async def sync_halt(self, link: AgentLink, known: Halt | None) -> None:
        """Send an agent that has just connected the halt, or the lift of it, if that has changed since its welcome,
        which contained `known`."""
        message = await self._halt_message()
        if message is None or (isinstance(message, HaltLifted) and known is None):
            return
        if known is None or isinstance(message, HaltLifted) or message.number != known.number:
            await link.send(message)

    async def sync_halt_with_all(self, start: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        """Send every agent here the halt in force or the lift of the latest: one has begun, or may have been missed.

        `start` starts each send in the background: an agent whose connection is full delays no other agent, nor the
        caller.
        """
        message = await self._halt_message()
        if message is None:
            return
        links = list(self.links.values())
        for link in links:
            start(link.send(message))
        if isinstance(message, HaltLifted):
            start(self._offer_again(links))

    async def _offer_again(self, links: list[AgentLink]) -> None:
        """Offer these agents their commands again: an agent ignores an offer that reaches it before the lift does."""
        for link in links:
            link.offered = None
        await self.sync_all_agents()

    async def _halt_message(self) -> Halt | HaltLifted | None:
        async with self.pool.connection() as conn:
            newest = await halts.latest(conn)
        if newest is None:
            return None
        return halt_message(newest) if newest["lifted_at"] is None else HaltLifted(number=newest["number"])


async def _send_due(link: AgentLink, row: DictRow) -> None:
    """Send the agent the message that this command's row calls for, if any.

    A row of which no message can be made harms only its own command, which fails because it is not accepted.
    """
    try:
        await _send_for(link, row)
    except Exception:
        logger.exception(
            "A command cannot be sent to its agent", extra={"action": "offer_failed", "command_id": str(row["id"])}
        )


class _NotTaken(Exception):
    """The turn has rules or files, and the agent's program does not take them."""


def _turn_of(row: DictRow, link: AgentLink) -> TurnSettings | None:
    """The settings of a command's turn, with the rules that are in force now. Raises msgspec.ValidationError, and
    _NotTaken."""
    if row["turn"] is None:
        return None
    turn = msgspec.convert(row["turn"], TurnSettings)
    own = msgspec.convert(row["agent_rules"], ToolRules)
    rules = own.joined(turn.rules.within(own, row["agent_mode"]))
    if link.takes_rules:  # else the requests of its CLI are denied
        rules = rules.joined(ToolRules(deny=row["denied_tools"]))
    if rules and not link.takes_rules:
        raise _NotTaken("the agent's program does not hold its coding CLI to rules")
    if turn.attachments and not link.takes_attachments:
        raise _NotTaken("the agent's program gives its coding CLI no files")
    return msgspec.structs.replace(turn, rules=rules)


async def _send_for(link: AgentLink, row: DictRow) -> None:
    if not CommandState(row["state"]).is_active:
        return
    if row["cancel_requested_at"] is not None:
        # The agent may not have accepted the command yet; after the cancel it never starts it.
        # An earlier release does not know all limits. That the command has timed out is on its row.
        limit = sent(row["limit_passed"]) if row["limit_passed"] and link.tells_work_clock else None
        message = Cancel(command_id=row["id"], reason=row["cancel_reason"], limit=limit)
    elif row["state"] == CommandState.DISPATCHED:
        now = time.monotonic()
        if link.offered is not None and link.offered[0] == row["id"] and now < link.offered[1] + OFFER_AGAIN_SECONDS:
            return
        link.offered = (row["id"], now)
        try:
            limits = msgspec.convert(row["limits"], CommandLimits)
            turn = _turn_of(row, link)
        except (msgspec.ValidationError, _NotTaken) as error:  # without an offer, its job gives the command up
            logger.warning(
                "A command cannot be offered: %s",
                error,
                extra={"action": "offer_failed", "command_id": str(row["id"]), "agent_id": str(row["agent_id"])},
            )
            return
        message = Offer(
            command_id=row["id"],
            text=row["text"],
            limits=limits,
            turn=turn,
            request_id=row["request_id"],
            problems=link.problems,
        )
    else:
        return
    with request_ids.in_force(row["request_id"]):
        kind = "offer" if isinstance(message, Offer) else "cancel"
        logger.info(
            "Sending an agent the %s of a command",
            kind,
            extra={"action": f"{kind}_sent", "command_id": str(row["id"]), "agent_id": str(row["agent_id"])},
        )
        await link.send(message)
