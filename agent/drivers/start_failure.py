"""The error of a command whose program could not start or was not signed in: the cause, and how to find its mend."""

from __future__ import annotations

MAX_CAUSE = 160
"""The error of a command has 256 characters: a long cause leaves room for the hint."""


def with_doctor(cause: str) -> str:
    """The cause, with the command that finds its mend."""
    return f"{cause[:MAX_CAUSE].rstrip('.')}. Find the mend on the agent's machine with: onsembl agent doctor"


def waits_for_a_person(question: str) -> str:
    """The error of a command whose program asks in plain text, where nobody can answer."""
    return (
        f"It waits for an answer on its terminal: “{question}”. "
        "Run it once on the agent's machine, as the agent's user, and answer there."
    )


def start_failure(error: OSError) -> str:
    """The error of a command whose program could not be started."""
    reason = error.strerror or str(error)
    return with_doctor(f"It could not be started: {reason}" + (f": {error.filename}" if error.filename else ""))
