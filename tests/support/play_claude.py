#!/usr/bin/env python3
"""In the place of `claude`: plays a recorded run, whose transcript the prompt names.

With KEEP_ON in the prompt, a run that was interrupted waits for its interrupt. `called.json` has what it was called
with.
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
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # it may come before it is waited for
sys.stdout.buffer.writelines(lines[:before])
sys.stdout.buffer.flush()
if "KEEP_ON" in prompt:
    signal.sigwait({signal.SIGINT})
sys.stdout.buffer.writelines(lines[before:])
sys.stdout.buffer.flush()
print("a warning", file=sys.stderr)
sys.exit(1 if b'"is_error":true' in lines[-1] and "KEEP_ON" not in prompt else 0)
