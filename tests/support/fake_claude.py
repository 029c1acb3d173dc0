#!/usr/bin/env python3
"""Replays a recorded run in the place of `claude`, over its protocol; the prompt begins with the transcript's name.

With KEEP_ON in the prompt, the replay of an interrupted run waits for the interrupt. `called.json` gets the arguments,
the prompt, and the permission mode that was asked for.
"""

import json
import os
import sys
from pathlib import Path


def tell(line: object) -> None:
    print(json.dumps(line), flush=True)


def next_prompt() -> str | None:
    """Answer requests until a prompt comes, and return it; None at an interrupt or at the end of the input."""
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "user":
            return message["message"]["content"]
        called["mode"] = message["request"].get("mode", called["mode"])
        response = {"subtype": "success", "request_id": message["request_id"], "response": {}}
        tell({"type": "control_response", "response": response})
        if message["request"]["subtype"] == "interrupt":
            return None
    return None


called: dict = {"argv": sys.argv[1:], "mode": None, "stdin_tty": os.isatty(0)}
prompt = called["prompt"] = next_prompt() or ""
Path("called.json").write_text(json.dumps(called))
lines = (Path(os.environ["TRANSCRIPTS"]) / f"{prompt.split()[0]}.jsonl").read_bytes().splitlines(keepends=True)
before = len(lines)
if "KEEP_ON" in prompt:
    before = next(n for n, line in enumerate(lines) if b"interrupted by user" in line)
sys.stdout.buffer.writelines(lines[:before])
sys.stdout.buffer.flush()
if "KEEP_ON" in prompt:
    next_prompt()
sys.stdout.buffer.writelines(lines[before:])
sys.stdout.buffer.flush()
print("a warning", file=sys.stderr)
sys.stdin.read()
sys.exit(1 if b'"is_error":true' in lines[-1] and "KEEP_ON" not in prompt else 0)
