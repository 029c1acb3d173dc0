"""Agents without programs: what they take and report is what real ones do, by their own journal; what they run is
played, and ends when the test says so."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from onsembl.agent.emergency_stop import Standing
from onsembl.agent.link.journal import Journal
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, CommandId, Epoch
from onsembl.protocol.messages import (
    Accepted,
    Cancel,
    Ended,
    EndRecorded,
    Halt,
    HaltLifted,
    HaltProgress,
    Hello,
    Offer,
    Outcome,
    ServerToAgentMessage,
    Welcome,
)
from onsembl.protocol.states import AgentKind, AgentMode
from onsembl.sql.audit import Actor

Report = Accepted | Ended | HaltProgress


class Link:
    """One connection, as the hub knows it: what was said over it and has not arrived, each way in order."""

    def __init__(self, agent_id: AgentId, epoch: Epoch, boot: UUID) -> None:
        self.agent_id = agent_id
        self.epoch = epoch
        self.boot: UUID | None = boot
        self.actor = Actor("agent", agent_id, "", "")
        self.offered: tuple[CommandId, float] | None = None
        self.to_agent: deque[ServerToAgentMessage] = deque()
        self.to_server: deque[Report] = deque()
        self.closed = False

    async def send(self, message: ServerToAgentMessage) -> None:
        self.to_agent.append(message)

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed = True


class PlayedAgent:
    """`started` has every start of a program, `ends` how each ended."""

    def __init__(self, id: AgentId, folder: Path) -> None:
        self.id = id
        self.link: Link | None = None
        self.running: UUID | None = None
        self.to_stop = False
        self.started: list[UUID] = []
        self.ends: dict[UUID, Outcome] = {}
        self._folder = folder
        self._begin()

    def _begin(self) -> None:
        self.boot = uuid4()
        self._journal = Journal(self._folder)
        self._standing = Standing()

    def hello(self) -> Hello:
        return Hello(
            version="1",
            kind=AgentKind.SHELL,
            mode=AgentMode.EXEC,
            host="here",
            platform="",
            columns=80,
            rows=24,
            boot=self.boot,
            running=list(self._journal.running.values()),
            ended=list(self._journal.ended.values()),
        )

    def take(self, message: ServerToAgentMessage) -> None:
        """A message of the server has arrived."""
        match message:
            case Welcome(halt=None):
                if self._standing.halt is not None:
                    self._standing.lift(self._standing.halt.number)
            case Welcome(halt=Halt() as halt):
                self._halt(halt)
            case Halt():
                self._halt(message)
            case HaltLifted():
                self._standing.lift(message.number)
            case Offer():
                self._offered(message.command_id)
            case Cancel():
                self._cancelled(message.command_id)
            case EndRecorded():
                self._journal.recorded(message.command_id)
            case _:
                raise AssertionError(message)

    def exit(self, outcome: Outcome) -> None:
        """The program has ended."""
        command_id, self.running, self.to_stop = self.running, None, False
        assert command_id is not None
        self.ends[command_id] = outcome
        self._end(command_id, outcome)
        if self._standing.halt is not None:
            self._progress(self._standing.halt)

    def restart(self) -> None:
        """The agent's own program ends without a word, and what it runs with it; a new one begins."""
        self.link = None
        self._journal.close()
        if self.running is not None:
            self.ends[self.running] = "lost"
            self.running, self.to_stop = None, False
        self._begin()
        for command_id in self._journal.lost:
            self._journal.lose(command_id, 0)

    def close(self) -> None:
        self._journal.close()

    def _offered(self, command_id: UUID) -> None:
        journal = self._journal
        if self._standing.halt is not None:
            return
        if command_id in journal.running:
            self._say(journal.running[command_id])
        elif command_id in journal.ended:
            self._say(journal.ended[command_id])
        elif not journal.knows(command_id) and self.running is None:
            report = Accepted(command_id=command_id, started_at=datetime.now(UTC), output_start=0)
            journal.accepted(report)
            self._say(report)
            self.running = command_id
            self.started.append(command_id)

    def _cancelled(self, command_id: UUID) -> None:
        if command_id == self.running:
            self.to_stop = True
        elif command_id in self._journal.ended:
            self._say(self._journal.ended[command_id])
        elif not self._journal.knows(command_id):
            self._end(command_id, "cancelled")

    def _halt(self, halt: Halt) -> None:
        if self._standing.begin(halt):
            self.to_stop = self.running is not None
        if self._standing.halt is not None:
            self._progress(self._standing.halt)

    def _progress(self, halt: Halt) -> None:
        state = "stopping" if self.running is not None else "stopped"
        self._say(HaltProgress(halt_id=halt.halt_id, state=state, at=datetime.now(UTC), processes_left=0, pids=[]))

    def _end(self, command_id: UUID, outcome: Outcome) -> None:
        end = Ended(command_id=command_id, outcome=outcome, ended_at=datetime.now(UTC))
        self._journal.end(end)
        self._say(end)

    def _say(self, report: Report) -> None:
        if self.link is not None:
            self.link.to_server.append(report)
