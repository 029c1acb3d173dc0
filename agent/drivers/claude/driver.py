"""Kind `claude`: each command is a run of Claude Code, which is driven by its stdio protocol."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from onsembl.agent.drivers.claude.translator import ClaudeTranslator
from onsembl.agent.drivers.turn_run import TurnRun
from onsembl.agent.process.process import ProcessContext
from onsembl.protocol.limits import CommandLimits

ARGV = (
    *("claude", "-p", "--verbose", "--include-partial-messages"),
    *("--input-format", "stream-json", "--output-format", "stream-json", "--permission-prompt-tool", "stdio"),
)
ASK_MODE = "default"
"""The permission mode in which Claude Code asks before it changes anything. It is set by the protocol, where all
versions know it by this name; the flag of newer versions calls it `manual`."""
_MODE_FLAGS = ("--permission-mode", "--dangerously-skip-permissions")


class ClaudeDriver:
    """Starts prompts. The prompt goes to standard input, so that the list of processes does not show it."""

    def start(self, command_id: str, text: str, context: ProcessContext, limits: CommandLimits) -> TurnRun:
        argv = [*ARGV, *context.arguments]
        if limits.cost_usd is not None:  # only the CLI knows the prices
            argv += ["--max-budget-usd", f"{limits.cost_usd:f}"]
        mode = None if _states_mode(context.arguments) else ASK_MODE
        return TurnRun(argv, command_id, context, ClaudeTranslator(text, uuid4(), mode))


def _states_mode(arguments: Sequence[str]) -> bool:
    """Whether the agent's own arguments decide the permission mode."""
    return any(argument.split("=")[0] in _MODE_FLAGS for argument in arguments)
