"""How far a coding agent may go without asking a person."""

from __future__ import annotations

from typing import Literal, get_args

PermissionMode = Literal["plan", "ask", "accept_edits", "auto", "full"]
"""From the strictest to the laxest. `plan`: it reads and plans. `ask`: it asks before it changes anything.
`accept_edits`: it edits files of its folder. `auto`: the CLI's own classifier decides. `full`: it asks nobody."""

PERMISSION_MODES: tuple[PermissionMode, ...] = get_args(PermissionMode)


def is_laxer(mode: PermissionMode, ceiling: PermissionMode) -> bool:
    """Whether `mode` goes further than `ceiling`."""
    return PERMISSION_MODES.index(mode) > PERMISSION_MODES.index(ceiling)
