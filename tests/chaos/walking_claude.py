#!/usr/bin/env python3
"""A Claude Code that remembers, and whose turn stays at one point until the test lets it go on (see `walking`). A
conversation has its prompts in a file where Claude Code has its transcript."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from walking import WalkingCli, tell


def message(*blocks: dict) -> None:
    tell(type="assistant", parent_tool_use_id=None, message={"id": f"m-{time.monotonic_ns()}", "content": blocks})


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


def end(**result: object) -> None:
    tell(type="result", num_turns=1, **result)


class WalkingClaude(WalkingCli):
    def __init__(self, session: str) -> None:
        self._session = session
        self._writes = False

    def begin(self) -> None:
        init = {"session_id": self._session, "model": "a-model", "cwd": str(Path.cwd()), "permissionMode": "default"}
        tell(type="system", subtype="init", **init)

    def write(self, text: str) -> None:
        self._writes = True
        delta = {"type": "text_delta", "text": text}
        tell(type="stream_event", parent_tool_use_id=None, event={"type": "content_block_delta", "delta": delta})

    def _end_message(self) -> None:
        tell(type="stream_event", parent_tool_use_id=None, event={"type": "content_block_stop"})

    def call(self, command: str) -> None:
        self._end_message()
        message({"type": "tool_use", "id": "a-call", "name": "Bash", "input": {"command": command}})

    def end_call(self, output: str) -> None:
        block = {"type": "tool_result", "tool_use_id": "a-call", "content": output}
        tell(type="user", parent_tool_use_id=None, message={"content": [block]})

    def await_interrupt(self) -> None:
        self._interrupt = next_line("control_request")

    def end_interrupted(self) -> None:
        answer(self._interrupt)
        end(subtype="error_during_execution", is_error=True, terminal_reason="aborted_tools")
        sys.exit(1)

    def take_text(self) -> None:
        tell(**next_line("user"), isReplay=True)

    def end(self) -> None:
        self._end_message()
        end(subtype="success", is_error=False, duration_ms=1, result="")


flags = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
session = flags.get("--resume") or flags["--session-id"]
transcript = Path(os.environ["CLAUDE_CONFIG_DIR"], "projects", "a-folder", f"{session}.jsonl")
if "--resume" in flags and not transcript.exists():
    sys.exit("No conversation found")
WalkingClaude(session).walk(next_line("user")["message"]["content"], transcript)
