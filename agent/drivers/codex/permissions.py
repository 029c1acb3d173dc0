"""How Codex is started in each permission mode. Its defaults are not used: configuration may change them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onsembl.protocol.permissions import PermissionMode

Sandbox = Literal["read-only", "workspace-write", "danger-full-access"]
Approval = Literal["on-request", "never"]


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
        further = [self.reviewer] if self.reviewer != "user" else ["edits accepted"] if self.accepts_edits else []
        return ", ".join([self.sandbox, self.approval, *further])


STARTS: dict[PermissionMode, ModeStart] = {
    # Commands run in a sandbox in which they change nothing. Codex asks before it changes a file, and when the model
    # wants to leave the sandbox. (With the policy `untrusted` it would also ask before it reads a file.)
    "plan": ModeStart("read-only", "on-request"),
    "ask": ModeStart("read-only", "on-request"),
    "accept_edits": ModeStart("read-only", "on-request", accepts_edits=True),
    "auto": ModeStart("workspace-write", "on-request", "auto_review"),
    "full": ModeStart("danger-full-access", "never"),
}
