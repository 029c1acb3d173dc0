"""Why an agent cannot go on without a person."""

from __future__ import annotations


class AgentError(Exception):
    """The text says what is wrong and what to do; the program ends with it."""
