#!/usr/bin/env python3
"""A Claude Code that asks for permission twice, one call after the other, and keeps what it was told.

The prompt is the name of the turn. It writes its process id to the file NAME.at in the folder STAGES when it has asked
for the first time. NAME.asked gets a line for each question, NAME.told one for each answer that it reads: the number of
the question, the decision, and the arguments that were allowed.
"""

import json
import os
import sys
from pathlib import Path

STAGES = Path(os.environ["STAGES"])


def tell(**line: object) -> None:
    print(json.dumps(line), flush=True)


def answer(request_id: str) -> None:
    tell(type="control_response", response={"subtype": "success", "request_id": request_id, "response": {}})


def note(file: str, *words: str) -> None:
    with (STAGES / f"{name}.{file}").open("a") as lines:
        lines.write(" ".join(words) + "\n")


def ask(number: int) -> None:
    arguments = {"command": f"echo {name} {number}"}
    block = {"type": "tool_use", "id": f"call-{number}", "name": "Bash", "input": arguments}
    tell(type="assistant", parent_tool_use_id=None, message={"id": f"m-{number}", "content": [block]})
    note("asked", str(number))
    request = {"subtype": "can_use_tool", "tool_name": "Bash", "tool_use_id": f"call-{number}", "input": arguments}
    tell(type="control_request", request_id=str(number), request=request)


def begin(prompt: str) -> str:
    session = next(argument.split("=")[1] for argument in sys.argv if argument.startswith("--session-id="))
    start = {"session_id": session, "model": "a-model", "cwd": str(Path.cwd()), "permissionMode": "default"}
    tell(type="system", subtype="init", **start)
    return prompt


name = ""
for text in sys.stdin:
    line = json.loads(text)
    match line["type"]:
        case "user":
            name = begin(line["message"]["content"])
            ask(1)
            (STAGES / f"{name}.at.new").write_text(str(os.getpid()))
            (STAGES / f"{name}.at.new").rename(STAGES / f"{name}.at")
        case "control_request":
            answer(line["request_id"])
            if line["request"]["subtype"] == "interrupt":
                tell(type="result", subtype="error_during_execution", is_error=True, num_turns=1)
                sys.exit(1)
        case "control_response":
            number, told = line["response"]["request_id"], line["response"]["response"]
            note("told", number, told["behavior"], json.dumps(told.get("updatedInput")))
            content = [{"type": "tool_result", "tool_use_id": f"call-{number}", "content": told["behavior"]}]
            tell(type="user", parent_tool_use_id=None, message={"content": content})
            if number == "1":
                ask(2)
            else:
                tell(type="result", subtype="success", is_error=False, num_turns=1, duration_ms=1, result="")
