#!/usr/bin/env python3
"""A Codex that remembers, and whose turn stays at one point (see `walking`)."""

from __future__ import annotations

import json
import sys
import uuid

from walking import WalkingCli, tell, transcript_of


def next_request(*methods: str) -> dict:
    """The next request of one of these methods; others before it are answered."""
    for line in sys.stdin:
        read = json.loads(line)
        if read.get("method") in methods:
            return read
        if "id" in read:
            tell(id=read["id"], result={})
    sys.exit()


class WalkingCodex(WalkingCli):
    def __init__(self, thread: str, start: dict) -> None:
        self._thread = thread
        self._start = start
        self._message = ""
        self._messages = 0

    def _tell(self, method: str, **params: object) -> None:
        tell(method=method, params={"threadId": self._thread, "turnId": "a-turn", **params})

    def _item(self, what: str, **item: object) -> None:
        self._tell(f"item/{what}", item=item)

    def _user_message(self, content: object) -> None:
        self._item("started", type="userMessage", id="m-user", content=content)

    def begin(self) -> None:
        tell(id=self._start["id"], result={"turn": {"id": "a-turn", "status": "inProgress"}})
        self._user_message(self._start["params"]["input"])

    def write(self, text: str) -> None:
        self._message += text
        self._tell("item/agentMessage/delta", itemId=f"m-{self._messages}", delta=text)

    def _end_message(self) -> None:
        self._item("completed", type="agentMessage", id=f"m-{self._messages}", text=self._message)
        self._messages, self._message = self._messages + 1, ""

    def _command(self, what: str, **fields: object) -> None:
        command = f"/bin/bash -lc '{self._called}'"
        self._item(what, type="commandExecution", id="a-call", command=command, processId="1", **fields)

    def call(self, command: str) -> None:
        self._end_message()
        self._called = command
        self._command("started", status="inProgress")

    def end_call(self, output: str) -> None:
        self._command("completed", status="completed", aggregatedOutput=output, exitCode=0)

    def await_interrupt(self) -> None:
        tell(id=next_request("turn/interrupt")["id"], result={})

    def end_interrupted(self) -> None:
        self._tell("turn/completed", turn={"id": "a-turn", "status": "interrupted"})
        next_request()

    def take_text(self) -> None:
        request = next_request("turn/steer")
        tell(id=request["id"], result={"turnId": "a-turn"})
        self._user_message(request["params"]["input"])

    def end(self) -> None:
        self._end_message()
        self._tell("turn/completed", turn={"id": "a-turn", "status": "completed"})


tell(id=next_request("initialize")["id"], result={"userAgent": "walking"})
opening = next_request("thread/start", "thread/resume")
thread = opening["params"].get("threadId") or str(uuid.uuid4())
if opening["method"] == "thread/resume" and not transcript_of(thread).exists():
    tell(id=opening["id"], error={"code": -32600, "message": f"no rollout found for thread id {thread}"})
    sys.exit(1)
tell(id=opening["id"], result={"thread": {"id": thread}, "model": "a-model"})
start = next_request("turn/start")
WalkingCodex(thread, start).walk(start["params"]["input"][0]["text"], transcript_of(thread))
