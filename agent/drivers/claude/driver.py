"""Kind `claude`: each command is a headless run of Claude Code, whose structured output is rendered as text."""

from __future__ import annotations

import asyncio
import signal

from onsembl.agent.drivers.claude.events import ClaudeEvents
from onsembl.agent.process.process import Process, ProcessContext
from onsembl.agent.terminal import AgentTerminal
from onsembl.protocol.limits import CommandLimits, LimitName
from onsembl.protocol.usage import Usage

ARGV = ("claude", "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages")


class ClaudeRun:
    """A run of Claude Code."""

    process: Process

    def __init__(self, terminal: AgentTerminal) -> None:
        self._terminal = terminal
        self._events = ClaudeEvents()
        self.progressed = asyncio.Event()

    def receive(self, data: bytes) -> None:
        """Render output of the CLI."""
        self._terminal.write(self._events.feed(data))
        self.progressed.set()

    def interrupt(self) -> None:
        # A headless run has no keyboard; SIGINT has the effect of Ctrl-C.
        self.process.tree.signal_group(signal.SIGINT)

    def finish(self) -> str | None:
        self._terminal.write(self._events.end())
        return self._events.error

    @property
    def usage(self) -> Usage | None:
        return self._events.usage

    @property
    def exceeded(self) -> LimitName | None:
        return "cost_usd" if self._events.over_budget else None


class ClaudeDriver:
    """Starts prompts. The prompt goes to standard input, so that the list of processes does not show it."""

    def start(self, command_id: str, text: str, context: ProcessContext, limits: CommandLimits) -> ClaudeRun:
        run = ClaudeRun(context.terminal)
        argv = [*ARGV, *context.arguments]
        if limits.cost_usd is not None:  # only the CLI knows the prices
            argv += ["--max-budget-usd", f"{limits.cost_usd:f}"]
        run.process = Process.on_pipes(argv, command_id, context, text, run.receive)
        return run
