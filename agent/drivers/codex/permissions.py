"""How Codex is started in each permission mode. Its defaults are not used: configuration may change them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onsembl.protocol.permissions import PermissionMode

Sandbox = Literal["read-only", "workspace-write", "danger-full-access"]
Approval = Literal["untrusted", "on-request", "never"]


@dataclass(frozen=True, slots=True)
class ModeStart:
    """Codex's sandbox, when it asks, and who answers: `user` is this agent, `auto_review` a model of its vendor.

    With `accepts_edits` the agent allows changes of files in the working folder.
    """

    sandbox: Sandbox
    approval: Approval
    reviewer: Literal["user", "auto_review"] = "user"
    accepts_edits: bool = False

    @property
    def shown(self) -> str:
        """The mode in Codex's own words."""
        words = f"{self.approval}, {self.sandbox}"
        return f"{words}, {self.reviewer}" if self.reviewer != "user" else words


STARTS: dict[PermissionMode, ModeStart] = {
    # What the sandbox forbids is asked for only when the model wants to leave it, and then denied.
    "plan": ModeStart("read-only", "on-request"),
    # It asks for every command that it does not know to be harmless, and for every change of a file.
    "ask": ModeStart("read-only", "untrusted"),
    "accept_edits": ModeStart("workspace-write", "untrusted", accepts_edits=True),
    "auto": ModeStart("workspace-write", "on-request", "auto_review"),
    "full": ModeStart("danger-full-access", "never"),
}
