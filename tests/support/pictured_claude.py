#!/usr/bin/env python3
"""Plays a turn for the pictures of the page, in the place of Claude Code: a plan, tools, a subagent, a change, a call
that is denied, and an answer."""

import json
import sys
import time

SESSION = next(argument.split("=")[1] for argument in sys.argv if argument.startswith(("--session-id=", "--resume=")))
MODEL = "claude-opus-4-8"
ANSWER = """Invoices are rounded **once**, at their total. The cent that was missing came from rounding each line.

| invoice | before | now |
| --- | --- | --- |
| 2041 | 118.99 € | 119.00 € |
| 2057 | 40.02 € | 40.03 € |

- `billing/invoice.py`: lines keep their exact amount
- `tests/test_invoices.py`: both invoices of the report are cases now

I was not allowed to push the branch: please push `fix/rounding` yourself."""


def tell(pause: float = 0.05, **line: object) -> None:
    print(json.dumps(line), flush=True)
    time.sleep(pause)


def message(*blocks: dict, parent: str | None = None) -> None:
    content = {"id": f"m{time.monotonic_ns()}", "model": MODEL, "content": blocks}
    tell(type="assistant", parent_tool_use_id=parent, message=content)


def say(text: str, parent: str | None = None) -> None:
    message({"type": "text", "text": text}, parent=parent)


def call(identity: str, name: str, seconds: float = 0.3, parent: str | None = None, **arguments: object) -> None:
    message({"type": "tool_use", "id": identity, "name": name, "input": arguments}, parent=parent)
    time.sleep(seconds)


def result(identity: str, text: str, parent: str | None = None, *, failed: bool = False) -> None:
    block = {"type": "tool_result", "tool_use_id": identity, "content": text, "is_error": failed}
    tell(type="user", parent_tool_use_id=parent, message={"content": [block]})


def plan(*states: str) -> None:
    steps = ("Find where a cent is lost", "Round once, at the total", "Add the reported invoices as cases")
    todos = [{"content": text, "status": state} for text, state in zip(steps, states, strict=True)]
    message({"type": "tool_use", "id": "plan", "name": "TodoWrite", "input": {"todos": todos}})
    done = {"type": "tool_result", "tool_use_id": "plan", "content": "Todos have been modified."}
    tell(type="user", parent_tool_use_id=None, message={"content": [done]}, tool_use_result={"newTodos": todos})


def read(kind: str, subtype: str = "") -> dict:
    for line in sys.stdin:
        read = json.loads(line)
        if read["type"] == "control_request":
            answer = {"subtype": "success", "request_id": read["request_id"], "response": {}}
            tell(0, type="control_response", response=answer)
        elif read["type"] == kind:
            return read
    sys.exit(1)


read("user")
tell(type="system", subtype="init", session_id=SESSION, model=MODEL, cwd="/srv/billing", permissionMode="default")
say("I look for the place where a cent is lost, before I change anything.")
plan("in_progress", "pending", "pending")
call("grep", "Grep", pattern="round\\(", path="billing")
result(
    "grep", "billing/invoice.py:48:    return round(self.amount * (1 + self.vat), 2)\nbilling/report.py:12:round(total)"
)
call("agent", "Task", 0.1, description="Check every caller of Line.gross", prompt="Which callers expect cents?")
call("one", "Read", 0.4, "agent", file_path="/srv/billing/billing/report.py")
result("one", "\n".join(f"{n}\tdef line_{n}(): ..." for n in range(1, 41)), "agent")
call("two", "Bash", 0.5, "agent", command="git log --oneline -5 -- billing/invoice.py")
result("two", "9f31c2e Add VAT per line\n1b0aa47 Invoices in cents", "agent")
say("Three callers, and each rounds again: none needs the rounded amount.", "agent")
result("agent", "Three callers, and each rounds again: none needs the rounded amount.")
plan("completed", "in_progress", "pending")
call(
    "edit",
    "Edit",
    file_path="/srv/billing/billing/invoice.py",
    old_string="    def gross(self) -> Decimal:\n        return round(self.amount * (1 + self.vat), 2)\n",
    new_string='    def gross(self) -> Decimal:\n        """Exact; the invoice rounds its total."""\n'
    "        return self.amount * (1 + self.vat)\n",
)
result("edit", "The file has been updated.")
call("test", "Bash", 0.9, command="uv run pytest tests/test_invoices.py -q")
result(
    "test",
    "F..............\nE   assert Decimal('118.99') == Decimal('119.00')\n1 failed, 14 passed in 0.61s",
    failed=True,
)
call(
    "fix",
    "Edit",
    file_path="/srv/billing/tests/test_invoices.py",
    old_string='    assert total(2041) == Decimal("118.99")\n',
    new_string='    assert total(2041) == Decimal("119.00")\n    assert total(2057) == Decimal("40.03")\n',
)
result("fix", "The file has been updated.")
call("again", "Bash", 1.1, command="uv run pytest tests/test_invoices.py -q")
result("again", "................\n16 passed in 0.58s")
plan("completed", "completed", "completed")
call("push", "Bash", 0.1, command="git push -u origin fix/rounding")
request = {"subtype": "can_use_tool", "tool_name": "Bash", "tool_use_id": "push"}
asked = {"input": {"command": "git push -u origin fix/rounding"}}
tell(type="control_request", request_id="push", request={**request, **asked})
read("control_response")
result("push", "The call was denied.", failed=True)
say(ANSWER)
usage = {"input_tokens": 18_240, "output_tokens": 3_115, "cache_read_input_tokens": 96_400}
counts = {"inputTokens": 18_240, "outputTokens": 3_115, "cacheReadInputTokens": 96_400, "contextWindow": 200_000}
tell(
    type="result",
    subtype="success",
    is_error=False,
    num_turns=9,
    duration_ms=41_300,
    result=ANSWER,
    usage=usage,
    total_cost_usd=0.2174,
    modelUsage={MODEL: {**counts, "costUSD": 0.2174}},
)
sys.stdin.read()
