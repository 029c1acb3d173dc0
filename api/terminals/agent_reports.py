"""What one agent reports over its connection, written down in order beside the loop that reads its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

from onsembl.api.terminals.agent_records import Presence
from onsembl.api.terminals.hub import Hub
from onsembl.protocol.ids import AgentId, Epoch
from onsembl.protocol.messages import (
    Accepted,
    Cancel,
    CancelStep,
    Ended,
    EndRecorded,
    HaltProgress,
    Refresh,
    ServerToAgentMessage,
    SizeApplied,
    Used,
)
from onsembl.sql.audit import Actor

PENDING_REPORTS = 64
"""Reports of one agent that may wait for the database; with more, its frames are not read on."""

Report = Accepted | Used | Ended | CancelStep | HaltProgress | SizeApplied | Refresh


def over(command_id: UUID) -> Cancel:
    """What an agent is told that runs what is over for everybody else: it took so long to take the offer up that
    nobody waited any more."""
    return Cancel(command_id=command_id, reason="It is over already.")


class Reports:
    """Put in as they come, written one after another by `work_off`. `send` answers the agent, `refresh` gives it the
    next tokens."""

    def __init__(
        self,
        agent_id: AgentId,
        epoch: Epoch,
        actor: Actor,
        hub: Hub,
        presence: Presence,
        send: Callable[[ServerToAgentMessage], Awaitable[None]],
        refresh: Callable[[Refresh], Awaitable[None]],
    ) -> None:
        self._agent_id = agent_id
        self._epoch = epoch
        self._actor = actor
        self._hub = hub
        self._presence = presence
        self._send = send
        self._refresh = refresh
        self._waiting: asyncio.Queue[Report] = asyncio.Queue(PENDING_REPORTS)

    async def put(self, report: Report) -> None:
        """Take a report; waits while there are too many."""
        await self._waiting.put(report)

    async def work_off(self) -> None:
        """Write what was put in, for ever. Raises psycopg.Error or PoolTimeout; what was not written was not
        acknowledged either."""
        while True:
            await self.write(await self._waiting.get())

    async def write(self, report: Report) -> None:
        """Write one, and answer it."""
        match report:
            case Accepted():
                stream_id = self._hub.terminals[self._agent_id].stream_id
                assert stream_id is not None
                if not await self._presence.accepted(self._agent_id, stream_id, report):
                    await self._send(over(report.command_id))
            case Used():
                await self._presence.used(self._agent_id, report)
            case Ended():
                following = await self._presence.ended(self._agent_id, report, self._actor)
                await self._send(EndRecorded(command_id=report.command_id))
                if following is not None:
                    await self._hub.dispatch(following)
            case CancelStep():
                await self._presence.cancel_step(self._agent_id, report, self._actor)
            case HaltProgress():
                await self._presence.halt_progress(self._agent_id, report, self._actor)
            case SizeApplied():
                await self._presence.resized(self._agent_id, self._epoch, report)
            case Refresh():
                await self._refresh(report)
