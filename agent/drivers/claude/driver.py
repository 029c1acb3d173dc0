"""Kind `claude`: a command is one headless run of Claude Code, its structured output shown for people."""

from __future__ import annotations

import asyncio
import signal

from onsembl.agent.drivers.claude.events import ClaudeEvents
from onsembl.agent.process.program import Process, Surroundings
from onsembl.agent.process.terminal import AgentTerminal
from onsembl.protocol.limits import CommandLimits, LimitName
from onsembl.protocol.usage import Usage

ARGV = ("claude", "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages")


class ClaudeRun:
    """One run."""

    process: Process

    def __init__(self, terminal: AgentTerminal) -> None:
        self._terminal = terminal
        self._events = ClaudeEvents()
        self.progressed = asyncio.Event()

    def take(self, data: bytes) -> None:
        """Output of the CLI."""
        self._terminal.write(self._events.feed(data))
        self.progressed.set()

    def interrupt(self) -> None:
        # Headless, it has no keyboard; SIGINT is what Ctrl-C would be.
        self.process.tree.signal_group(signal.SIGINT)

    def finish(self) -> str | None:
        self._terminal.write(self._events.end())
        return self._events.error

    @property
    def usage(self) -> Usage | None:
        return self._events.usage

    @property
    def passed(self) -> LimitName | None:
        return "cost_usd" if self._events.over_budget else None


class ClaudeAdapter:
    """Runs prompts. The prompt goes in by standard input, so the list of processes does not show it."""

    def start(self, command_id: str, text: str, surroundings: Surroundings, limits: CommandLimits) -> ClaudeRun:
        run = ClaudeRun(surroundings.terminal)
        argv = [*ARGV, *surroundings.arguments]
        if limits.cost_usd is not None:  # only it knows the prices
            argv += ["--max-budget-usd", f"{limits.cost_usd:f}"]
        run.process = Process.on_pipes(argv, command_id, surroundings, text, run.take)
        return run
