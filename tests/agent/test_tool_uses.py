"""What rules see of a tool call: the commands of a command line, the path of a file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.drivers.claude import tools
from onsembl.agent.drivers.tool_uses import shell_use
from onsembl.protocol.tool_rules import ToolRules


def allowed(rule: str, name: str, folder: object = "/work", **arguments: str) -> bool:
    return ToolRules(allow=[rule]).allowance(tools.use(name, dict(arguments), str(folder))) is not None


def denied(rule: str, name: str, folder: object = "/work", **arguments: str) -> bool:
    return ToolRules(deny=[rule]).denial(tools.use(name, dict(arguments), str(folder))) is not None


@pytest.mark.parametrize(
    "command",
    [
        "git status; rm -rf /",
        "git status && rm x",
        "git log | sh",
        "git log\nrm x",
        "git log & rm x",
        "git log $(rm x)",
        "git log `rm x`",
        "git log > /etc/passwd",
        "git log < x",
        "git <(rm x)",
        "(git log)",
        "git log\rrm x",
        "FOO=1 git log",
        "sudo git log",
        "git" + " x" * 100_000,
    ],
)
def test_an_allowed_command_brings_no_other_with_it(command):
    """A command line that does more than the allowed command is not allowed by its pattern, but by the whole tool."""
    assert not allowed("Bash(git *)", "Bash", command=command)
    assert allowed("Bash", "Bash", command=command)


def test_each_command_of_a_line_needs_an_allowance():
    """They may be joined by `;`, `&&`, `||`, `|` and line feeds."""
    rules = ToolRules(allow=["Bash(git *)", "Bash(head*)"])
    line = tools.use("Bash", {"command": " git log | head -3 && git status || head;\ngit diff "}, "/work")
    assert rules.allowance(line) == "Bash(git *), Bash(head*)"
    assert allowed("execute(make *)", "Bash", command="make test")


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf /",
        "  rm x",
        "ls; rm x",
        "ls && rm x",
        "ls | rm x",
        "ls & rm x",
        "echo $(rm x)",
        "echo `rm x`",
        "(rm x)",
        "{ rm x; }",
        "A=1 B=2 rm x",
        "echo\nrm x",
        "rm x" + " y" * 200_000,
    ],
)
def test_a_denied_command_is_found_in_a_line(command):
    """Wherever a command may begin."""
    assert denied("Bash(rm *)", "Bash", command=command)
    assert not denied("Bash(rmdir *)", "Bash", command=command)


PIECES = st.lists(
    st.sampled_from(["rm x", "ls", ";", "&&", "|", "$(", ")", "`", "\n", " ", "'", "&", "{", "}"]), max_size=9
)


@given(PIECES)
def test_no_line_is_both_allowed_and_hides_a_command(pieces):
    """A line that is allowed by a pattern begins no other command at any of its joints."""
    command = "".join(pieces)
    use = shell_use(["Bash"], command)
    if ToolRules(allow=["Bash(ls*)"]).allowance(use) is not None:
        assert ToolRules(deny=["Bash(rm x*)"]).denial(use) is None


def test_a_path_is_seen_from_the_working_directory(tmp_path):
    """As it is given, whole, and resolved: neither `..` nor a link leads out of what is allowed."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "out").symlink_to("/etc")
    for path in ("src/a.py", f"{tmp_path}/src/a.py", "./src/../src/a.py"):
        assert allowed("Edit(src/*)", "Edit", tmp_path, file_path=path)
        assert allowed(f"edit({tmp_path}/*)", "Write", tmp_path, file_path=path)
        assert denied("edit(src/*)", "MultiEdit", tmp_path, file_path=path)
    for path in ("src/../b", "/etc/passwd", "src/out/passwd", "", "src/\0"):
        assert not allowed("Edit(src/*)", "Edit", tmp_path, file_path=path)
    assert denied("Read(/etc/*)", "Read", tmp_path, file_path="src/out/passwd")
    assert denied("read(/etc/*)", "Read", tmp_path, file_path="src/../../../../../../../../etc/passwd")


def test_other_tools_are_compared_by_one_text():
    """The address of a page, the query of a search, all arguments of a tool that is not known."""
    assert allowed("WebFetch(https://docs.example.org/*)", "WebFetch", url="https://docs.example.org/a")
    assert not allowed("fetch(https://docs.example.org/*)", "WebFetch", url="https://example.org/a")
    assert denied('mcp__*(*"secret"*)', "mcp__store__get", query="x", key="secret")
    assert not allowed("other", "mcp__store__get", key="x"), "an unknown tool has no kind"
