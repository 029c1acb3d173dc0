"""How the state of a command is shown. A success that was denied tool calls does not look like one."""

from __future__ import annotations

from typing import Any

from onsembl.cli.output import styled
from onsembl.protocol.states import CommandState


def state_of(command: dict[str, Any]) -> str:
    """The state, for a column of a list."""
    if not command["denied"]:
        return f"{command['state']:<10}"
    return _coloured(command, f"{command['state']}, {command['denied']} not allowed")


def outcome(command: dict[str, Any]) -> str:
    """The state with its reasons."""
    parts = [command["state"]]
    if command["exit_code"]:
        parts.append(f"exit {command['exit_code']}")
    if command["signal"]:
        parts.append(f"signal {command['signal']}")
    if command["error"]:
        parts.append(command["error"])
    if command["steer_state"] == "taken":
        parts.append(f"taken as step {command['steer_step']} of {command['steers']}")
    if command["denied"]:
        denials = [f"{denial['tool']} {denial['title']}".strip() for denial in command["denials"]]
        parts.append(f"{command['denied']} not allowed: {'; '.join(denials)}")
    return _coloured(command, ", ".join(parts))


def _coloured(command: dict[str, Any], text: str) -> str:
    incomplete = command["state"] == CommandState.SUCCEEDED and command["denied"]
    return styled(text, fg="yellow") if incomplete else text
