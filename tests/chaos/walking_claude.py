#!/usr/bin/env python3
"""A Claude Code that remembers, and whose turn stays at one point until the test lets it go on.

The prompt is the name of the turn, and the point. There it writes its process id to the file NAME.at in the folder
STAGES, and waits for NAME.go. A conversation has its prompts in a file where Claude Code has its transcript.
"""

import json
import os
import sys
import time
from pathlib import Path

STAGES = Path(os.environ["STAGES"])
POINTS = ["started", "first_text", "tool_begun", "tool_result", "steered", "interrupted", "result_seen"]


def tell(**line: object) -> None:
    print(json.dumps(line), flush=True)


def message(*blocks: dict) -> None:
    tell(type="assistant", parent_tool_use_id=None, message={"id": f"m-{time.monotonic_ns()}", "content": blocks})


def said(text: str) -> None:
    message({"type": "text", "text": text})


def stay(here: str) -> None:
    if here == point:
        (STAGES / f"{name}.at.new").write_text(str(os.getpid()))
        (STAGES / f"{name}.at.new").rename(STAGES / f"{name}.at")
        while not (STAGES / f"{name}.go").exists():
            time.sleep(0.02)


def next_line(kind: str) -> dict:
    """The next line of this type; requests before it are answered."""
    for line in sys.stdin:
        read = json.loads(line)
        if read["type"] == kind and read.get("request", {}).get("subtype", "interrupt") == "interrupt":
            return read
        answer(read)
    sys.exit(1)


def answer(request: dict) -> None:
    tell(type="control_response", response={"subtype": "success", "request_id": request["request_id"], "response": {}})


flags = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
session = flags.get("--resume") or flags["--session-id"]
transcript = Path(os.environ["CLAUDE_CONFIG_DIR"], "projects", "a-folder", f"{session}.jsonl")
if "--resume" in flags and not transcript.exists():
    sys.exit("No conversation found")
prompt = next_line("user")["message"]["content"]
name, point = prompt.split()
transcript.parent.mkdir(parents=True, exist_ok=True)
before = transcript.read_text() if transcript.exists() else ""
transcript.write_text(f"{before}{name} ")
stay("started")
tell(type="system", subtype="init", session_id=session, model="a-model", cwd=str(Path.cwd()), permissionMode="default")
for piece in (f"I begin {name}", " and go on."):
    delta = {"type": "text_delta", "text": piece}
    tell(type="stream_event", parent_tool_use_id=None, event={"type": "content_block_delta", "delta": delta})
    stay("first_text")
    point = "" if point == "first_text" else point
tell(type="stream_event", parent_tool_use_id=None, event={"type": "content_block_stop"})
message({"type": "tool_use", "id": "a-call", "name": "Bash", "input": {"command": f"echo {name}"}})
stay("tool_begun")
if point == "interrupted":
    interrupt = next_line("control_request")
    stay("interrupted")
    answer(interrupt)
    tell(type="result", subtype="error_during_execution", is_error=True, terminal_reason="aborted_tools", num_turns=1)
    sys.exit(1)
block = {"type": "tool_result", "tool_use_id": "a-call", "content": f"the output of {name}"}
tell(type="user", parent_tool_use_id=None, message={"content": [block]})
stay("tool_result")
if point == "steered":
    (STAGES / f"{name}.waits").touch()
    tell(**next_line("user"), isReplay=True)
    stay("steered")
said(f"Before this came: {before or 'nothing'}")
tell(type="result", subtype="success", is_error=False, num_turns=1, duration_ms=1, result="")
stay("result_seen")
sys.stdin.read()
