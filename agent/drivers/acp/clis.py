"""The coding CLIs that speak the Agent Client Protocol (ACP), and in what they differ from it and from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onsembl.protocol.permissions import PermissionMode


@dataclass(frozen=True, slots=True, kw_only=True)
class AcpCli:
    """A CLI: how it is started and signed in, and its names of the permission modes.

    `modes` has for each of our modes the CLI's own, or the next stricter that the CLI has. `key_method` is the way to
    sign in with an API key, and the environment variable that has the key. `replay_ends_with` is the update that
    follows a replay of a conversation, when the CLI answers the request for it before the replay is over.
    `forgotten` are texts of its error about a conversation that it does not have.
    """

    name: str
    argv: Sequence[str]
    modes: Mapping[PermissionMode, str]
    key_method: tuple[str, str] | None = None
    replay_ends_with: str | None = None
    forgotten: Sequence[str] = ()


GEMINI = AcpCli(
    name="Gemini CLI",
    # Without a second Node process, which would stay when the first one is killed.
    argv=("env", "GEMINI_CLI_NO_RELAUNCH=true", "gemini", "--acp"),
    # It has no mode in which a classifier decides.
    modes={"plan": "plan", "ask": "default", "accept_edits": "autoEdit", "auto": "autoEdit", "full": "yolo"},
    key_method=("gemini-api-key", "GEMINI_API_KEY"),
    replay_ends_with="available_commands_update",
    forgotten=("Invalid session identifier", "No previous sessions found"),
)
