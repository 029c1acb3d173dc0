"""Decides on requests for permission by the rules of the turn, for CLIs that only tell of a call when they ask. No I/O.

A call that the CLI makes without asking is compared with the denials when it has run: one that a rule denies stops the
turn, for such a CLI cannot be held back before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from onsembl.protocol.attention_messages import PermissionBody
from onsembl.protocol.tool_rules import NO_RULES, ToolRules, ToolUse
from onsembl.protocol.turn_messages import TurnSettings


@dataclass(frozen=True, slots=True)
class RuleDecision:
    """What a rule decides on a request."""

    verdict: Literal["allow", "deny"]
    rule: str


def rules_of(turn: TurnSettings | None) -> ToolRules:
    """The rules of a turn. In the permission mode `plan` nothing is allowed by a rule."""
    if turn is None:
        return NO_RULES
    return ToolRules(deny=turn.rules.deny) if turn.permission_mode == "plan" else turn.rules


def decide(rules: ToolRules, body: object) -> RuleDecision | None:
    """The decision of the rules on a request with this body; None when a person decides."""
    if not isinstance(body, PermissionBody):
        return None
    use = ToolUse(body.names, body.said, body.parts)
    if (rule := rules.denial(use)) is not None:
        return RuleDecision("deny", rule)
    if (rule := rules.allowance(use)) is not None:
        return RuleDecision("allow", rule)
    return None


def stop_text(cli: str, title: str, rule: str) -> str:
    """Why a turn is stopped in which a denied call has run."""
    return f"Stopped: {cli} ran {title} without asking, which the rule {rule} denies."
