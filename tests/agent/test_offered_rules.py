"""The rules that are offered for a call that a person is asked about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.drivers.claude import tools
from onsembl.agent.drivers.offered_rules import MAX_OFFERED, offered_rules
from onsembl.agent.drivers.tool_uses import file_use, files_use, shell_use, text_use
from onsembl.protocol.tool_rules import ToolRules

SHELL, EDIT = ("Bash", "execute"), ("Edit", "edit")


@pytest.mark.parametrize(
    ("use", "rules"),
    [
        (shell_use(SHELL, "git push origin"), ["Bash(git push origin)", "Bash(git push *)", "Bash(git *)", "Bash"]),
        (shell_use(SHELL, "make"), ["Bash(make)", "Bash"]),
        (shell_use(SHELL, "git add a && git commit"), ["Bash(git *)", "Bash"]),
        (shell_use(SHELL, "git add a && make all"), ["Bash"]),
        (shell_use(SHELL, "rm *.txt"), ["Bash(rm *)", "Bash"]),
        (shell_use(SHELL, "echo x > y"), ["Bash"]),
        (shell_use(SHELL, "A=1 make all"), ["Bash(A=1 make all)", "Bash"]),
        (file_use(EDIT, "/w/a/b.py", "/w"), ["Edit(a/b.py)", "Edit(a/*)", "Edit(/w/*)", "Edit"]),
        (file_use(EDIT, "/etc/hosts", "/w"), ["Edit(/etc/hosts)", "Edit(/etc/*)", "Edit"]),
        (files_use(("edit",), ["/w/a/b", "/w/a/c"], "/w"), ["edit(a/*)", "edit(/w/*)", "edit"]),
        (files_use(("edit",), ["/w/a", "/etc/c"], "/w"), ["edit"]),
        (
            text_use(("WebFetch", "fetch"), "https://a.example/b"),
            ["WebFetch(https://a.example/b)", "WebFetch(https://a.example/*)", "WebFetch"],
        ),
        (text_use(("mcp__a__b",), '{"c":1}'), ['mcp__a__b({"c":1})', "mcp__a__b"]),
        (text_use(("other",), "anything"), []),
        (text_use(("a tool",), "x"), []),
    ],
)
def test_from_the_narrowest_to_the_widest(use, rules):
    """The call itself, calls like it, then the whole tool."""
    assert offered_rules(use, "/w") == rules


texts = st.text(st.sampled_from("ab *?=&|;<>()'\"/\\\n.\0é"), max_size=30)


@given(command=texts, path=texts, other=texts)
def test_each_rule_allows_the_call_and_no_further_tool(command, path, other):
    """Whatever is asked. The first rule of a plain command allows no other plain command."""
    for use in (shell_use(SHELL, command), file_use(EDIT, path, "/w"), tools.use("WebFetch", {"url": other}, "/w")):
        rules = offered_rules(use, "/w")
        assert len(rules) <= MAX_OFFERED
        for rule in rules:
            allowed = ToolRules(allow=[rule])
            assert allowed.allowance(use) is not None
            assert allowed.allowance(text_use(["Write"], other)) is None
    use, another = shell_use(SHELL, command), shell_use(SHELL, other)
    first = offered_rules(use, "/w")[0]
    if first != "Bash" and not first.endswith(" *)") and ToolRules(allow=[first]).allowance(another) is not None:
        assert {text for [text] in another.parts} == {text for [text] in use.parts}
