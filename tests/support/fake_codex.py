#!/usr/bin/env python3
"""Speaks the protocol of Codex's app-server in the place of `codex`, and writes each request to `requests.jsonl`."""

import json
import os
import sys
from pathlib import Path


def tell(**message: object) -> None:
    print(json.dumps(message), flush=True)


Path("called.json").write_text(json.dumps({"argv": sys.argv[1:], "log": os.environ.get("RUST_LOG")}))
for line in sys.stdin:
    message = json.loads(line)
    with Path("requests.jsonl").open("a") as file:
        file.write(line)
    thread = message.get("params", {}).get("threadId") or "the-clis-id"
    match message["method"]:
        case "thread/start" | "thread/resume":
            tell(id=message["id"], result={"thread": {"id": thread}, "model": "a-model"})
        case "thread/fork":
            tell(id=message["id"], result={"thread": {"id": f"copy-of-{thread}"}, "model": "a-model"})
        case "turn/start":
            turn = {"id": "a-turn", "status": "completed"}
            tell(id=message["id"], result={"turn": turn})
            item = {"type": "agentMessage", "id": "m", "text": f"heard {message['params']['input'][0]['text']}"}
            tell(method="item/completed", params={"threadId": thread, "item": item})
            tell(method="turn/completed", params={"threadId": thread, "turn": turn})
        case "initialize":
            tell(id=message["id"], result={})
