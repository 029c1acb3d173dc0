#!/usr/bin/env python3
"""Speaks the Agent Client Protocol in the place of `gemini`, and writes each request to `requests.jsonl`."""

import json
import sys
from pathlib import Path


def tell(**message: object) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


ANSWERS = {
    "initialize": {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}},
    "session/new": {"sessionId": "the-clis-id"},
    "session/load": {},
    "session/set_mode": {},
    "session/prompt": {"stopReason": "end_turn", "_meta": {"quota": {"token_count": {"input_tokens": 3}}}},
}
for line in sys.stdin:
    message = json.loads(line)
    with Path("requests.jsonl").open("a") as file:
        file.write(line)
    session = message.get("params", {}).get("sessionId")
    if message["method"] == "session/prompt":
        text = message["params"]["prompt"][0]["text"]
        update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": f"heard {text}"}}
        tell(method="session/update", params={"sessionId": session, "update": update})
    tell(id=message["id"], result=ANSWERS[message["method"]])
    if message["method"] == "session/load":
        update = {"sessionUpdate": "available_commands_update", "availableCommands": []}
        tell(method="session/update", params={"sessionId": session, "update": update})
