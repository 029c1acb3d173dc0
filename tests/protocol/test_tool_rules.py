"""Rules that allow and deny tool calls: their patterns, what they are compared with, and who may give them."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onsembl.protocol.tool_rules import RequestedRules, Rule, ToolRules, ToolUse, matches

PATTERNS = st.text("ab*", max_size=8)
TEXTS = st.text("ab\n", max_size=12)


@example("ab*ba", "aba")
@example("a*b*b", "ab")
@given(PATTERNS, TEXTS)
def test_a_star_stands_for_any_characters(pattern, text):
    """Every other character stands for itself; the whole text must fit."""
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert matches(pattern, text) == (re.fullmatch(expression, text, re.DOTALL) is not None)


def test_a_pattern_takes_no_exponential_time():
    """As some regular expressions do."""
    assert not matches("*a" * 128 + "b", "a" * 1_000_000)


def use(name: str, *parts: str, kind: str = "other") -> ToolUse:
    return ToolUse([name, kind], parts, [[part] for part in parts])


RULES = st.builds(
    lambda tool, pattern: tool if pattern is None else f"{tool}({pattern})",
    st.sampled_from(["A", "B", "A*", "*"]),
    st.none() | st.text("ab*", min_size=1, max_size=4),
)
LISTS = st.lists(RULES, max_size=3)
USES = st.builds(lambda name, parts: use(name, *parts), st.sampled_from("AB"), st.lists(TEXTS, max_size=3))


@given(LISTS, LISTS, USES)
def test_a_denial_wins(allow, deny, call):
    """What is denied is never allowed; more denials deny no less."""
    rules = ToolRules(allow=allow, deny=deny)
    if rules.denial(call) is not None:
        assert rules.allowance(call) is None
        assert ToolRules(deny=["C", *deny]).denial(call) is not None


@given(LISTS, USES)
def test_each_part_needs_an_allowance(allow, call):
    """A call is allowed as a whole, or in each of its parts."""
    rules = ToolRules(allow=allow)
    whole = any("(" not in rule and matches(rule, call.names[0]) for rule in allow)
    each = bool(call.parts) and all(
        rules.allowance(ToolUse(call.names, parts, [parts])) is not None for parts in call.parts
    )
    assert (rules.allowance(call) is not None) == (whole or each)


@given(LISTS, LISTS, USES)
def test_no_command_is_allowed_more_than_its_agent(asked, agent, call):
    """The rules that are within an agent's allow nothing that the agent's do not; those beyond are named."""
    own, wanted = ToolRules(allow=agent), ToolRules(allow=asked)
    within = wanted.within(own, "auto")
    assert within.allowance(call) is None or own.allowance(call) is not None
    assert {*within.allow, *wanted.beyond(own, "auto")} == set(asked)
    assert wanted.within(own, "full") == wanted


def test_a_denial_needs_no_permission():
    """A command may always be denied more."""
    assert ToolRules(deny=["*"]).beyond(ToolRules(), "plan") == []


@pytest.mark.parametrize(
    ("rule", "valid"),
    [
        ("Bash", True),
        ("*", True),
        ("mcp__github__*", True),
        ("Bash(git *)", True),
        ("Bash(echo (a))", True),
        ("edit(src/*.py)", True),
        ("", False),
        ("Bash()", False),
        ("Bash(git *", False),
        ("Bash(a\n)", False),
        ("Bash\n", False),
        ("(git)", False),
        ("a*b", False),
        ("x" * 257, False),
    ],
)
def test_a_rule_has_one_form(rule, valid):
    """TOOL or TOOL(PATTERN), without control characters."""
    if valid:
        assert msgspec.convert(rule, Rule) == rule
    else:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(rule, Rule)


def test_the_number_of_rules_is_bounded():
    """Of a request more than of the turn, which has those of the agent, the preset and the command."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"deny": ["Bash"] * 51}, RequestedRules)
    several = ToolRules(deny=[f"A{number}" for number in range(50)]).joined(ToolRules(deny=["A1", "B"]))
    assert len(msgspec.convert(msgspec.to_builtins(several), ToolRules).deny) == 51
