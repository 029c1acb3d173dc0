"""The coding CLIs that speak the Agent Client Protocol (ACP), and in what they differ from it and from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from onsembl.agent.drivers.json_lines import Json
from onsembl.agent.errors import AgentError
from onsembl.agent.mcp.tools import NAMES
from onsembl.protocol.permissions import PERMISSION_MODES, PermissionMode

NO_COMMAND = (
    "Name the CLI after `--`: a known one (onsembl agent run --name NAME -- opencode), or any command that speaks ACP"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcpCli:
    """A CLI: how it is started and signed in, and its names of the permission modes.

    `modes` has for each of our modes the CLI's own, or the next stricter that the CLI has; without any, the CLI asks by
    itself, and only the mode `plan` cannot be had. `mode_options` has for some of our modes an option of its own that
    is set, too, and the option's value. `key_method` is the way to sign in with an API key, and the
    environment variable that has the key. `model_flag` and `folder_flag` are its options for a model and for a further
    folder that it may read. `replay_ends_with` is the update that follows a replay of a conversation, when the CLI
    answers the request for it before the replay is over. `tool_title` is the title of a call of a tool by the names of
    the tool and its server. `forgotten` are texts of its error about a conversation that it does not have.
    `mode_message` begins the message in which it says that its mode has changed, in the place of an update. `forks`
    says whether it copies conversations (`session/fork`), and `counts_all` whether the tokens that it reports were seen
    to be all those of a turn. `session_settings` is what it is told, beside the protocol, when it opens a conversation.
    """

    name: str
    argv: Sequence[str]
    modes: Mapping[PermissionMode, str] = field(default_factory=dict[PermissionMode, str])
    mode_options: Mapping[PermissionMode, tuple[str, str]] = field(
        default_factory=dict[PermissionMode, tuple[str, str]]
    )
    key_method: tuple[str, str] | None = None
    model_flag: str | None = None
    folder_flag: str | None = None
    replay_ends_with: str | None = None
    forgotten: Sequence[str] = ()
    tool_title: str | None = None
    mode_message: str | None = None
    forks: bool = False
    counts_all: bool = False
    session_settings: Json = field(default_factory=dict[str, Any])

    def own_tools(self, server: str) -> Sequence[str]:
        """The titles of calls of the agent's own tools, which need no permission, on the server of that name."""
        return [self.tool_title.format(tool=tool, server=server) for tool in NAMES] if self.tool_title else []


GEMINI = AcpCli(
    name="Gemini CLI",
    # Without a second Node process, which would stay when the first one is killed, and without a pseudo-terminal for
    # its shell, whose output it does not report.
    argv=("env", "GEMINI_CLI_NO_RELAUNCH=true", "GEMINI_PTY_INFO=child_process", "gemini", "--acp"),
    # It has no mode in which a classifier decides.
    modes={"plan": "plan", "ask": "default", "accept_edits": "autoEdit", "auto": "autoEdit", "full": "yolo"},
    key_method=("gemini-api-key", "GEMINI_API_KEY"),
    model_flag="--model",
    folder_flag="--include-directories",
    replay_ends_with="available_commands_update",
    tool_title="{tool} ({server} MCP Server)",
    forgotten=("Invalid session identifier", "No previous sessions found"),
    mode_message="[MODE_UPDATE] ",
    counts_all=True,
)

_SESSION_MODES = "https://agentclientprotocol.com/protocol/session-modes"
KNOWN: dict[str, AcpCli] = {
    "opencode": AcpCli(name="OpenCode", argv=("opencode", "acp"), forks=True),
    "copilot": AcpCli(
        name="GitHub Copilot CLI",
        argv=("copilot", "--acp", "--stdio"),
        # Its autopilot asks nothing either, but goes on after the answer until the model calls the task complete.
        modes={mode: f"{_SESSION_MODES}#{'plan' if mode == 'plan' else 'agent'}" for mode in PERMISSION_MODES},
        mode_options={"full": ("allow_all", "on")},
        counts_all=True,
    ),
    "grok": AcpCli(name="Grok", argv=("grok", "agent", "stdio")),
    "qwen": AcpCli(
        name="Qwen Code",
        argv=("qwen", "--acp"),
        modes={"plan": "plan", "ask": "default", "accept_edits": "auto-edit", "auto": "auto", "full": "yolo"},
    ),
    "goose": AcpCli(name="Goose", argv=("goose", "acp")),
    "claude-agent-acp": AcpCli(
        name="Claude by ACP",
        argv=("claude-agent-acp",),
        modes={
            "plan": "plan",
            "ask": "default",
            "accept_edits": "acceptEdits",
            "auto": "auto",
            "full": "bypassPermissions",
        },
        tool_title="mcp__{server}__{tool}",
        forks=True,
        counts_all=True,
        # Nobody sees the titles and the next prompts that it would ask of the model, in calls that it does not report.
        session_settings={"claudeCode": {"options": {"title": "Onsembl", "promptSuggestions": False}}},
    ),
    "codex-acp": AcpCli(
        name="Codex by ACP",
        argv=("codex-acp",),
        modes={
            "plan": "read-only",
            "ask": "read-only",
            "accept_edits": "workspace-write",
            "auto": "agent",
            "full": "agent-full-access",
        },
        forks=True,
    ),
}
"""The CLIs that are known by the name of their program."""


def cli_of(arguments: Sequence[str]) -> AcpCli:
    """The CLI that an agent of the kind `acp` runs, by the arguments after `--`: the name of a known one, or a command.
    Raises AgentError without any."""
    if not arguments:
        raise AgentError(f"{NO_COMMAND}.")
    program = PurePath(arguments[0]).name
    known = KNOWN.get(program, AcpCli(name=program[:64], argv=()))
    return known if len(arguments) == 1 and known.argv else replace(known, argv=tuple(arguments))
