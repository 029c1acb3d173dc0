"""The errors that end an agent's program, or its work for a while."""

from __future__ import annotations


class AgentError(Exception):
    """The agent needs a person; the text says what is wrong and what to do."""


class CannotWrite(Exception):
    """The agent's folder cannot be written, for example because the disk is full: it takes no command for now."""
