"""The output of a Claude Code in a turn of many steps: subagents side by side, and one huge result."""

from __future__ import annotations

import json
from collections.abc import Iterator

SUBAGENTS = 200
HUGE_BYTES = 5 * 2**20


def call(identity: str, name: str, parent: str | None) -> bytes:
    """A line: a tool is called."""
    block = {"type": "tool_use", "id": identity, "name": name, "input": {"command": f"echo {identity}"}}
    return _line("assistant", parent, block)


def result(identity: str, text: str, parent: str | None) -> bytes:
    """A line: the result of a call."""
    return _line("user", parent, {"type": "tool_result", "tool_use_id": identity, "content": text})


def begin(calls: int, subagents: int = SUBAGENTS) -> Iterator[bytes]:
    """The subagents begin, and each makes `calls` calls; none has a result yet."""
    for number in range(subagents):
        yield call(f"agent{number}", "Agent", None)
        for at in range(calls):
            yield call(f"begun{number}-{at}", "Bash", f"agent{number}")


def go_on(calls: int, subagents: int = SUBAGENTS) -> Iterator[bytes]:
    """`calls` more calls of these subagents with a result of 4 kB each, and one of the main agent with a huge one."""
    for number in range(calls):
        parent = f"agent{number % subagents}"
        yield call(f"call{number}", "Bash", parent)
        yield result(f"call{number}", "x" * 4000, parent)
    yield call("huge", "Bash", None)
    yield result("huge", "y" * HUGE_BYTES, None)
    for number in range(subagents):
        yield result(f"agent{number}", "done", None)


def end() -> bytes:
    """The turn's end."""
    told = {"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, "duration_ms": 1, "result": ""}
    return json.dumps(told).encode() + b"\n"


def _line(kind: str, parent: str | None, block: dict[str, object]) -> bytes:
    line = {"type": kind, "parent_tool_use_id": parent, "message": {"content": [block]}}
    return json.dumps(line).encode() + b"\n"
