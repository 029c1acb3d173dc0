"""The error that ends an agent's program."""

from __future__ import annotations


class AgentError(Exception):
    """The agent needs a person; the text says what is wrong and what to do."""
