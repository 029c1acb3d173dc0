"""How Claude Code is started in each permission mode. Its default is not one of them: settings may change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onsembl.protocol.permissions import PERMISSION_MODES, PermissionMode


@dataclass(frozen=True, slots=True)
class ModeStart:
    """The flags of a mode, and the request that sets it before the prompt, if a flag does not.

    `reported` is the CLI's name of the mode in its first line of a turn.
    """

    flags: Sequence[str]
    request: str | None
    reported: str


STARTS: dict[PermissionMode, ModeStart] = {
    # By the flag: set by a request, version 2.1.197 runs shell commands that change files without a question.
    "plan": ModeStart(("--permission-mode=plan",), None, "plan"),
    # By the request, where all versions know it by this name: the flag of newer versions calls it `manual`.
    "ask": ModeStart((), "default", "default"),
    "accept_edits": ModeStart(("--permission-mode=acceptEdits",), None, "acceptEdits"),
    "auto": ModeStart(("--permission-mode=auto",), None, "auto"),
    "full": ModeStart(("--permission-mode=bypassPermissions",), None, "bypassPermissions"),
}
_MODES: dict[str, PermissionMode] = {
    **{start.reported: mode for mode, start in STARTS.items()},
    "manual": "ask",
    "dontAsk": "ask",  # denies what it would ask
}


def goes_further(reported: str, mode: PermissionMode) -> bool:
    """Whether the mode that the CLI reports goes further than `mode`; a name that is not known does."""
    found = _MODES.get(reported)
    return found is None or PERMISSION_MODES.index(found) > PERMISSION_MODES.index(mode)
