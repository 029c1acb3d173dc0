#!/usr/bin/env python3
"""A CLI that speaks ACP and remembers, and whose turn stays at one point (see `walking`)."""

from __future__ import annotations

import json
import sys
import uuid

from walking import WalkingCli, tell, transcript_of


def next_message(*methods: str) -> dict:
    """The next message of one of these methods."""
    for line in sys.stdin:
        read = json.loads(line)
        if read.get("method") in methods:
            return read
    sys.exit()


def answer(request: dict, **result: object) -> None:
    tell(jsonrpc="2.0", id=request["id"], result=result)


class WalkingAcp(WalkingCli):
    def __init__(self, session: str, prompt: dict) -> None:
        self._session = session
        self._prompt = prompt

    def _update(self, session_update: str, **fields: object) -> None:
        update = {"sessionUpdate": session_update, **fields}
        tell(jsonrpc="2.0", method="session/update", params={"sessionId": self._session, "update": update})

    def begin(self) -> None:
        """The protocol has no word for it."""

    def write(self, text: str) -> None:
        self._update("agent_message_chunk", content={"type": "text", "text": text})

    def call(self, command: str) -> None:
        call = {"toolCallId": "a-call", "title": command, "kind": "execute", "status": "in_progress"}
        self._update("tool_call", **call, rawInput={"command": command})

    def end_call(self, output: str) -> None:
        content = [{"type": "content", "content": {"type": "text", "text": output}}]
        self._update("tool_call_update", toolCallId="a-call", status="completed", content=content)

    def await_interrupt(self) -> None:
        next_message("session/cancel")

    def end_interrupted(self) -> None:
        answer(self._prompt, stopReason="cancelled")
        sys.stdin.read()

    def take_text(self) -> None:
        raise NotImplementedError("the protocol has no texts for a running turn")

    def end(self) -> None:
        answer(self._prompt, stopReason="end_turn")


answer(next_message("initialize"), protocolVersion=1, agentCapabilities={"loadSession": True})
opening = next_message("session/new", "session/load")
session = opening["params"].get("sessionId") or str(uuid.uuid4())
if opening["method"] == "session/load" and not transcript_of(session).exists():
    tell(jsonrpc="2.0", id=opening["id"], error={"code": -32002, "message": "Resource not found"})
    sys.exit(1)
answer(opening, sessionId=session)
prompt = next_message("session/prompt")
WalkingAcp(session, prompt).walk(prompt["params"]["prompt"][0]["text"], transcript_of(session))
