"""The vocabulary of states, defined once: the wire, the database and the page all use these words."""

from __future__ import annotations

from enum import StrEnum


class AgentKind(StrEnum):
    """Which coding CLI an agent runs."""

    CLAUDE = "claude"
    CODEX = "codex"
    GEMINI = "gemini"
    SHELL = "shell"


class AgentMode(StrEnum):
    """How commands reach the CLI: one headless run each, or typed into its own full-screen program."""

    EXEC = "exec"
    INTERACTIVE = "interactive"


class AgentStatus(StrEnum):
    """Whether an agent is connected, as written by the one API instance that holds its connection."""

    ONLINE = "online"
    OFFLINE = "offline"


class HaltState(StrEnum):
    """How far a halt has come with one agent. `stopped` is the agent's word that no process is left."""

    NOT_REACHED = "not_reached"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DYING = "dying"


class Role(StrEnum):
    """What an operator may do: look, command, or everything."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether this role may do all that `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class CommandState(StrEnum):
    """A command's life; final states never change."""

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
        """Whether a command in this state occupies its agent: at most one does."""
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
    CommandState.QUEUED: frozenset({CommandState.DISPATCHED, CommandState.CANCELLED}),
    # Back to queued when the agent returns and has never heard of the command.
    CommandState.DISPATCHED: frozenset({CommandState.QUEUED, CommandState.RUNNING}) | FINAL_STATES,
    CommandState.RUNNING: FINAL_STATES,
    **{state: frozenset[CommandState]() for state in FINAL_STATES},
}
