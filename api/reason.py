"""Why something failed, for the log and for people."""

from __future__ import annotations


def reason_of(error: BaseException) -> str:
    """What the error says; that of a time limit says nothing."""
    return str(error) or "no answer in time"
