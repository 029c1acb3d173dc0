#!/usr/bin/env python3
"""Replays a recorded run in the place of `claude`; the prompt names the transcript.

With KEEP_ON in the prompt, the replay of an interrupted run waits for SIGINT. `called.json` gets the arguments and the
prompt.
"""

import json
import os
import signal
import sys
from pathlib import Path

prompt = sys.stdin.read()
Path("called.json").write_text(json.dumps({"argv": sys.argv[1:], "prompt": prompt, "stdin_tty": os.isatty(0)}))
lines = (Path(os.environ["TRANSCRIPTS"]) / f"{prompt.split()[0]}.jsonl").read_bytes().splitlines(keepends=True)
before = len(lines)
if "KEEP_ON" in prompt:
    before = next(n for n, line in enumerate(lines) if b"interrupted by user" in line)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # The signal may arrive before sigwait.
sys.stdout.buffer.writelines(lines[:before])
sys.stdout.buffer.flush()
if "KEEP_ON" in prompt:
    signal.sigwait({signal.SIGINT})
sys.stdout.buffer.writelines(lines[before:])
sys.stdout.buffer.flush()
print("a warning", file=sys.stderr)
sys.exit(1 if b'"is_error":true' in lines[-1] and "KEEP_ON" not in prompt else 0)
