#!/usr/bin/env python3
"""Replays a recorded run in the place of `claude`, over its protocol; the prompt begins with the transcript's name.

With KEEP_ON in the prompt, the replay of an interrupted run waits for the interrupt. With TAKES, the replay waits after
its first tool for a further text, and takes it; with DROPS, it ends there without taking it. `called.json` gets the
arguments, the prompt, the permission mode that was asked
for, the images, and the content and the mode of each attached file.
"""

import json
import os
import sys
from pathlib import Path


def tell(line: object) -> None:
    print(json.dumps(line), flush=True)


def next_prompt() -> dict | None:
    """Answer requests until a prompt comes, and return its line; None at an interrupt or at the end of the input."""
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "user":
            return message
        called["mode"] = message["request"].get("mode", called["mode"])
        response = {"subtype": "success", "request_id": message["request_id"], "response": {}}
        tell({"type": "control_response", "response": response})
        if message["request"]["subtype"] == "interrupt":
            return None
    return None


called: dict = {"argv": sys.argv[1:], "mode": None, "stdin_tty": os.isatty(0)}
first = next_prompt()
content = first["message"]["content"] if first else ""
blocks = [{"text": content}] if isinstance(content, str) else content
prompt = called["prompt"] = blocks[0]["text"]
called["images"] = [block["source"] for block in blocks[1:]]
prompt, _, attached = prompt.partition("\n\nAttached files:\n")
files = [Path(line.removeprefix("- ")) for line in attached.splitlines()]
called["files"] = {str(file): [file.read_bytes().hex(), oct(file.stat().st_mode)] for file in files}
Path("called.json").write_text(json.dumps(called))
lines = (
    (Path(os.environ["TRANSCRIPTS"]) / f"{prompt.split(chr(10) * 2)[-1].split()[0]}.jsonl")
    .read_bytes()
    .splitlines(keepends=True)
)
before = len(lines)
if "KEEP_ON" in prompt:
    before = next(n for n, line in enumerate(lines) if b"interrupted by user" in line)
steered = "TAKES" in prompt or "DROPS" in prompt
if steered:
    before = next(n for n, line in enumerate(lines) if b'"tool_result"' in line) + 1
sys.stdout.buffer.writelines(lines[:before])
sys.stdout.buffer.flush()
if "KEEP_ON" in prompt:
    next_prompt()
if steered:
    text = next_prompt()
    if text is not None:
        if "DROPS" in prompt:
            sys.exit(1)
        tell({**text, "isReplay": True})
sys.stdout.buffer.writelines(lines[before:])
sys.stdout.buffer.flush()
print("a warning", file=sys.stderr)
sys.stdin.read()
sys.exit(1 if b'"is_error":true' in lines[-1] and "KEEP_ON" not in prompt else 0)
