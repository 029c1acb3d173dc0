"""Rules that allow or deny a coding agent's tool calls, by tool and pattern. No I/O; a denial wins.

A rule is `TOOL` or `TOOL(PATTERN)`. TOOL is the name of a tool (`Bash`), the beginning of names (`mcp__github__*`), a
kind of tools in the words of `ToolKind` (`edit`, `execute`), or `*`. In PATTERN, `*` stands for any characters, and
every other character for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from onsembl.protocol.field_types import END
from onsembl.protocol.permissions import PermissionMode

MAX_RULES = 50
"""Of one list of an agent, a preset or a command."""
MAX_RULES_OF_TURN = 4 * MAX_RULES
"""Of one list of a turn, which has those of all three."""

Rule = Annotated[
    str,
    Meta(
        max_length=256,
        pattern=r"^(\*|[A-Za-z][A-Za-z0-9_.:-]*\*?)(\([^\x00-\x1f\x7f]+\))?" + END,
        description="`TOOL` or `TOOL(PATTERN)`; in a pattern `*` stands for any characters.",
    ),
]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool call, as rules see it. `names` are the names and the kind of the tool.

    `said` are the texts that a denial's pattern is compared with: one of them is enough. `parts` are those of an
    allowance, which needs a rule for each part; of a part, one of its forms is enough. Without parts, only a rule
    without a pattern allows the call.
    """

    names: Sequence[str]
    said: Sequence[str]
    parts: Sequence[Sequence[str]]


class ToolRules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rules of a turn."""

    allow: Annotated[list[Rule], Meta(max_length=MAX_RULES_OF_TURN)] = []
    deny: Annotated[list[Rule], Meta(max_length=MAX_RULES_OF_TURN)] = []

    def __bool__(self) -> bool:
        return bool(self.allow or self.deny)

    def joined(self, other: ToolRules) -> ToolRules:
        """The rules of both, each once."""
        return ToolRules(
            allow=list(dict.fromkeys([*self.allow, *other.allow])), deny=list(dict.fromkeys([*self.deny, *other.deny]))
        )

    def denial(self, use: ToolUse) -> str | None:
        """The rule that denies the call, if one does."""
        return next((rule for rule in self.deny if _denies(rule, use)), None)

    def allowance(self, use: ToolUse) -> str | None:
        """The rules that allow the call, if they do and none denies it."""
        if self.denial(use) is not None:
            return None
        rules = [_split(rule) for rule in self.allow]
        fitting = [(text, pattern) for text, (tool, pattern) in zip(self.allow, rules, strict=True) if _is(tool, use)]
        whole = next((text for text, pattern in fitting if pattern is None), None)
        if whole is not None or not use.parts:
            return whole
        found: list[str] = []
        for forms in use.parts:
            match = next((text for text, pattern in fitting if pattern is not None and _any(pattern, forms)), None)
            if match is None:
                return None
            found.append(match)
        return ", ".join(dict.fromkeys(found))

    def within(self, agent: ToolRules, mode: PermissionMode) -> ToolRules:
        """These rules, without those that allow more than an agent with these rules and this permission mode does."""
        beyond = self.beyond(agent, mode)
        return ToolRules(allow=[rule for rule in self.allow if rule not in beyond], deny=self.deny)

    def beyond(self, agent: ToolRules, mode: PermissionMode) -> list[str]:
        """The rules that allow more than an agent with these rules and this permission mode does. An agent that asks
        nobody has no such limit."""
        if mode == "full":
            return []
        return [rule for rule in self.allow if not any(_covers(wider, rule) for wider in agent.allow)]


class RequestedRules(ToolRules, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The rules of an agent, a preset or a command, in a request."""

    allow: Annotated[list[Rule], Meta(max_length=MAX_RULES)] = []
    deny: Annotated[list[Rule], Meta(max_length=MAX_RULES)] = []


NO_RULES = ToolRules()
REQUESTED_NO_RULES = RequestedRules()


def matches(pattern: str, text: str) -> bool:
    """Whether a text fits a pattern, in which `*` stands for any characters. Takes linear time for each `*`."""
    first, *others = pattern.split("*")
    if not others:
        return pattern == text
    if not text.startswith(first):
        return False
    *middle, last = others
    at = len(first)
    for part in middle:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return len(text) - at >= len(last) and text.endswith(last)


def _split(rule: str) -> tuple[str, str | None]:
    """The tool and the pattern of a rule."""
    tool, parenthesis, pattern = rule.partition("(")
    return tool, pattern[:-1] if parenthesis else None


def _is(tool: str, use: ToolUse) -> bool:
    return _any(tool, use.names)


def _any(pattern: str, texts: Iterable[str]) -> bool:
    return any(matches(pattern, text) for text in texts)


def _denies(rule: str, use: ToolUse) -> bool:
    tool, pattern = _split(rule)
    return _is(tool, use) and (pattern is None or _any(pattern, use.said))


def _covers(wider: str, rule: str) -> bool:
    """Whether `wider` allows all that `rule` does. A `*` of `rule` is a character that only a `*` of `wider` fits."""
    (wider_tool, wider_pattern), (tool, pattern) = _split(wider), _split(rule)
    if not matches(wider_tool, tool):
        return False
    return wider_pattern is None or (pattern is not None and matches(wider_pattern, pattern))
