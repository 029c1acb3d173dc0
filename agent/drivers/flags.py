"""Reads the arguments that an agent's owner has added to those of its coding CLI."""

from __future__ import annotations

from collections.abc import Sequence


def states(arguments: Sequence[str], flags: Sequence[str]) -> bool:
    """Whether one of the flags is among the arguments."""
    return any(argument.split("=")[0] in flags for argument in arguments)
