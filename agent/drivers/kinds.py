"""The driver of each kind of agent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from onsembl.agent.drivers.acp.clis import cli_of
from onsembl.agent.drivers.acp.driver import AcpDriver, GeminiDriver
from onsembl.agent.drivers.claude.driver import ClaudeDriver
from onsembl.agent.drivers.codex.driver import CodexDriver
from onsembl.agent.drivers.shell import ShellDriver
from onsembl.protocol.states import AgentKind

DRIVERS: dict[AgentKind, type[ShellDriver | ClaudeDriver | CodexDriver | GeminiDriver | AcpDriver]] = {
    AgentKind.SHELL: ShellDriver,
    AgentKind.CLAUDE: ClaudeDriver,
    AgentKind.CODEX: CodexDriver,
    AgentKind.GEMINI: GeminiDriver,
    AgentKind.ACP: AcpDriver,
}


def cli_name(kind: AgentKind, arguments: Sequence[str]) -> str | None:
    """The program that an agent with these arguments runs, where its kind does not name the CLI. Raises AgentError if
    the arguments name none."""
    if kind is not AgentKind.ACP:
        return None
    cli_of(arguments)
    return PurePath(arguments[0]).name[:64]
