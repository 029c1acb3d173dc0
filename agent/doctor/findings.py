"""What a check of the doctor finds: in order, worth knowing, or a fault that somebody must mend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. A fault always has its mend; a note may have one."""

    check: str
    state: State
    text: str
    mend: str | None = None


def ok(check: str, text: str) -> Finding:
    return Finding(check, "ok", text)


def note(check: str, text: str, mend: str | None = None) -> Finding:
    return Finding(check, "note", text, mend)


def fault(check: str, text: str, mend: str) -> Finding:
    return Finding(check, "fault", text, mend)
