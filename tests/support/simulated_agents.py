"""Simulated agents: they take messages and report as real agents do, with a real journal, but run no program. A
command ends when the test calls `exit`."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from onsembl.agent.emergency_stop import HaltTracker
from onsembl.agent.link.journal import Journal, fates
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, CommandId, Epoch
from onsembl.protocol.messages import (
    Accepted,
    AgentProblem,
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
    Steer,
    Steered,
    Welcome,
)
from onsembl.protocol.states import AgentKind, AgentMode
from onsembl.sql.audit import Actor

Report = Accepted | Ended | Steered | HaltProgress | AgentProblem


class SimulatedLink:
    """One connection, as the hub sees it, with the messages under way in each direction."""

    def __init__(self, agent_id: AgentId, epoch: Epoch, boot: UUID) -> None:
        self.agent_id = agent_id
        self.epoch = epoch
        self.boot: UUID | None = boot
        self.attempt: int | None = None
        self.actor = Actor("agent", agent_id, "", "")
        self.takes_steers = True
        self.takes_rules = True
        self.takes_attachments = True
        self.takes_answers = False
        self.branch: str | None = None
        self.offered: tuple[CommandId, float] | None = None
        self.problems = 0
        self.to_agent: deque[ServerToAgentMessage] = deque()
        self.to_server: deque[Report] = deque()
        self.closed = False

    async def send(self, message: ServerToAgentMessage) -> None:
        self.to_agent.append(message)

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed = True


class SimulatedAgent:
    """An agent without a program. `started` lists the commands that it started, `ends` how each one ended. `given`
    lists the texts that it gave to running turns, `taken` those that the turns took, and `unsure` those of which a kill
    left it in doubt."""

    def __init__(self, id: AgentId, folder: Path) -> None:
        self.id = id
        self.link: SimulatedLink | None = None
        self.full = False
        self.running: UUID | None = None
        self.stopping = False
        self.started: list[UUID] = []
        self.ends: dict[UUID, Outcome] = {}
        self.given: list[UUID] = []
        self.taken: list[UUID] = []
        self.unsure: list[UUID] = []
        self._folder = folder
        self._start()

    def _start(self) -> None:
        self.boot = uuid4()
        self.problem: str | None = "full" if self.full else None
        self._problems = 0
        self._journal = Journal(self._folder)
        self._halts = HaltTracker()

    def hello(self) -> Hello:
        self._problems = 0
        return Hello(
            version="1",
            kind=AgentKind.CLAUDE,
            mode=AgentMode.EXEC,
            host="here",
            platform="",
            columns=80,
            rows=24,
            boot=self.boot,
            running=list(self._journal.running.values()),
            ended=list(self._journal.ended.values()),
            recalls=True,
            problem=self.problem,
            takes_steers=True,
            takes_rules=True,
            takes_attachments=True,
        )

    def fill_disk(self, *, noticed: bool) -> None:
        """Leave no room for the journal; the agent notices at once, or at the next offer."""
        self.full = True
        if noticed:
            self._change_problem("full")

    def make_room(self) -> None:
        """Let the agent notice that there is room again."""
        self.full = False
        self._change_problem(None)

    def _change_problem(self, problem: str | None) -> None:
        if problem != self.problem:
            self.problem = problem
            self._problems += 1
            self._report(AgentProblem(problem=problem, number=self._problems))

    def receive(self, message: ServerToAgentMessage) -> None:
        """Receive a message of the server."""
        if isinstance(message, Welcome):
            for command_id in message.recall:
                self._recall(command_id)
        match message:
            case Welcome(halt=None):
                if self._halts.halt is not None:
                    self._halts.lift(self._halts.halt.number)
            case Welcome(halt=Halt() as halt):
                self._halt(halt)
            case Halt():
                self._halt(message)
            case HaltLifted():
                self._halts.lift(message.number)
            case Offer():
                if message.problems == self._problems:
                    self._receive_offer(message.command_id)
            case Steer():
                self._steer(message)
            case Cancel():
                self._cancel(message.command_id)
            case EndRecorded():
                self._journal.recorded(message.command_id)
            case _:
                raise AssertionError(message)

    def _recall(self, command_id: UUID) -> None:
        end = self._journal.ended.get(command_id) or self._journal.recorded_end(command_id)
        lost = Ended(command_id=command_id, outcome="lost", ended_at=datetime.now(UTC))
        self._report(end or lost)

    def _steer(self, steer: Steer) -> None:
        if steer.command_id != self.running or self.stopping:
            return
        steers = self._journal.steers(steer.command_id)
        if (taken := steers.get(steer.steer_id)) is not None:
            self._report(taken)
        elif steer.steer_id not in steers:
            self._journal.steer_given(steer.command_id, steer.steer_id)
            self.given.append(steer.steer_id)

    def take_text(self) -> None:
        """Let the running turn take the first text that it was given."""
        assert self.running is not None
        for steer_id, taken in self._journal.steers(self.running).items():
            if taken is None:
                self.taken.append(steer_id)
                report = Steered(command_id=self.running, steer_id=steer_id, step=1)
                self._journal.steered(report)
                self._report(report)
                return

    def exit(self, outcome: Outcome) -> None:
        """End the running command."""
        command_id, self.running, self.stopping = self.running, None, False
        assert command_id is not None
        self.ends[command_id] = outcome
        self._end(command_id, outcome)
        if self._halts.halt is not None:
            self._report_progress(self._halts.halt)

    def restart(self) -> None:
        """Kill the agent and its running command without a report, and start the agent again."""
        self.link = None
        self._journal.close()
        if self.running is not None:
            self.unsure += [id for id, taken in self._journal.steers(self.running).items() if taken is None]
            self.ends[self.running] = "lost"
            self.running, self.stopping = None, False
        self._start()
        for command_id in self._journal.lost:
            self._journal.end_as_lost(command_id, 0, 0)

    def close(self) -> None:
        self._journal.close()

    def _receive_offer(self, command_id: UUID) -> None:
        journal = self._journal
        if self._halts.halt is not None:
            return
        if command_id in journal.running:
            self._report(journal.running[command_id])
        elif command_id in journal.ended:
            self._report(journal.ended[command_id])
        elif not journal.knows(command_id) and self.full:
            self._change_problem("full")
        elif not journal.knows(command_id) and self.running is None:
            report = Accepted(command_id=command_id, started_at=datetime.now(UTC), output_start=0)
            journal.accepted(report)
            self._report(report)
            self.running = command_id
            self.started.append(command_id)

    def _cancel(self, command_id: UUID) -> None:
        if command_id == self.running:
            self.stopping = True
        elif command_id in self._journal.ended:
            self._report(self._journal.ended[command_id])
        elif not self._journal.knows(command_id):
            self._end(command_id, "cancelled")

    def _halt(self, halt: Halt) -> None:
        if self._halts.begin(halt):
            self.stopping = self.running is not None
        if self._halts.halt is not None:
            self._report_progress(self._halts.halt)

    def _report_progress(self, halt: Halt) -> None:
        state = "stopping" if self.running is not None else "stopped"
        self._report(HaltProgress(halt_id=halt.halt_id, state=state, at=datetime.now(UTC), processes_left=0, pids=[]))

    def _end(self, command_id: UUID, outcome: Outcome) -> None:
        steers = fates(self._journal.steers(command_id), "late")
        end = Ended(command_id=command_id, outcome=outcome, ended_at=datetime.now(UTC), steers=steers)
        self._journal.end(end)
        self._report(end)

    def _report(self, report: Report) -> None:
        if self.link is not None:
            self.link.to_server.append(report)
