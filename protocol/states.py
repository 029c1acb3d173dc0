"""States and kinds, defined once for the wire, the database and the page."""

from __future__ import annotations

from enum import StrEnum


class AgentKind(StrEnum):
    """The coding CLI that an agent runs."""

    CLAUDE = "claude"
    CODEX = "codex"
    GEMINI = "gemini"
    ACP = "acp"
    """Any CLI that speaks the Agent Client Protocol."""
    SHELL = "shell"

    @property
    def converses(self) -> bool:
        """Whether its commands are prompts: turns of conversations. Those of a shell are command lines."""
        return self is not AgentKind.SHELL


class AgentMode(StrEnum):
    """How an agent passes commands to the CLI: a headless run for each, or typed into its full-screen program."""

    EXEC = "exec"
    INTERACTIVE = "interactive"


class AgentStatus(StrEnum):
    """Whether an agent is connected, as written by the one API instance that holds its connection."""

    ONLINE = "online"
    OFFLINE = "offline"


class HaltState(StrEnum):
    """The progress of a halt at one agent. `stopped` means that the agent has confirmed that no process is left."""

    NOT_REACHED = "not_reached"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DYING = "dying"


class Role(StrEnum):
    """An operator's role: a viewer looks, an operator also sends commands, an admin may do everything."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether this role has every permission of `other`."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class CommandState(StrEnum):
    """The state of a command; final states never change."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    LOST = "lost"

    @property
    def is_final(self) -> bool:
        return self in FINAL_STATES

    @property
    def is_active(self) -> bool:
        """Whether a command in this state occupies its agent, which has at most one such command."""
        return self in ACTIVE_STATES

    def may_become(self, other: CommandState) -> bool:
        return other in TRANSITIONS[self]


ACTIVE_STATES = frozenset({CommandState.DISPATCHED, CommandState.RUNNING})
FINAL_STATES = frozenset(
    {
        CommandState.SUCCEEDED,
        CommandState.FAILED,
        CommandState.CANCELLED,
        CommandState.TIMED_OUT,
        CommandState.LOST,
    }
)

TRANSITIONS: dict[CommandState, frozenset[CommandState]] = {
    # Failed, when it is not to wait for its agent's usage limit.
    CommandState.QUEUED: frozenset({CommandState.DISPATCHED, CommandState.CANCELLED, CommandState.FAILED}),
    # Back to queued when the agent reconnects and has not accepted the command.
    CommandState.DISPATCHED: frozenset({CommandState.QUEUED, CommandState.RUNNING}) | FINAL_STATES,
    CommandState.RUNNING: FINAL_STATES,
    **{state: frozenset[CommandState]() for state in FINAL_STATES},
}
