"""The assistant of the demo: a program that speaks the Agent Client Protocol and plays a coding agent without a model.

It knows one thing: the shop in its folder, whose discount is wrong. Asked for a report, it writes what is wrong; asked
for anything else, it mends it, and asks for permission to change the file and to run the tests. What it reads, changes
and runs is real. `onsembl up --demo` starts it as the CLI of an agent of the kind `acp`.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from onsembl.protocol.reports import INSTRUCTION

PAUSE_SECONDS = 0.4
"""Between two steps, so that a person can follow them."""
TEST_SECONDS = 60.0
METHOD_NOT_FOUND = -32601
MODULE, TESTS = "discount.py", "test_discount.py"
WRONG, RIGHT = "price * percent / 10\n", "price * percent / 100\n"
FILES = {
    MODULE: f'''"""Prices of the shop."""


def discounted(price: float, percent: float) -> float:
    """The price after a discount of so many percent."""
    return price - {WRONG}''',
    TESTS: '''"""Tests of the shop's prices."""

import unittest

from discount import discounted


class Discounts(unittest.TestCase):
    def test_ten_percent(self):
        self.assertEqual(discounted(200, 10), 180)

    def test_no_discount(self):
        self.assertEqual(discounted(200, 0), 200)


if __name__ == "__main__":
    unittest.main()
''',
}
WHO = "I am the assistant of the demo: a script, not a model. All I know is this shop, whose discount is wrong.\n\n"


PROGRAM = "assistant"
"""The file that starts the assistant; agents of the kind `acp` are shown by the name of their program."""


def make_shop(folder: Path) -> None:
    """Make the shop's files in this folder, where they are missing, and the program that starts the assistant."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / PROGRAM
    program.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m {__spec__.name}\n")
    program.chmod(0o755)
    for name, text in FILES.items():
        with suppress(FileExistsError), (folder / name).open("x") as file:
            file.write(text)


class Assistant:
    """One run of the assistant, from standard input to standard output; one JSON-RPC message a line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._session = ""
        self._turn: asyncio.Task[None] | None = None
        self._calls = 0
        self._asked: dict[int, asyncio.Future[str]] = {}
        """The requests for permission that wait, by number; the result is the chosen option."""

    async def run(self) -> None:
        """Answer until the input ends. Raises what a turn raises, so that an error ends the command."""
        reader = asyncio.StreamReader(limit=2**24)  # a prompt carries files
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async with asyncio.TaskGroup() as turns:
            while line := await reader.readline():
                self._take(json.loads(line), turns)

    def _take(self, message: Mapping[str, Any], turns: asyncio.TaskGroup) -> None:
        number, params = message.get("id"), message.get("params", {})
        match message.get("method"):
            case None if number in self._asked:
                outcome = message.get("result", {}).get("outcome", {})
                self._asked.pop(number).set_result(outcome.get("optionId", "cancelled"))
            case "initialize":
                self._answer(
                    number,
                    protocolVersion=1,
                    agentInfo={"name": "demo", "version": "1"},
                    agentCapabilities={"sessionCapabilities": {"resume": {}}},
                )
            case "session/new":
                self._session = f"demo-{id(self):x}"
                self._answer(number, sessionId=self._session)
            case "session/resume":
                self._session = params["sessionId"]
                self._answer(number)
            case "session/prompt":
                self._turn = turns.create_task(self._run_turn(number, params))
            case "session/cancel" if self._turn is not None:
                self._turn.cancel()
            case _ if number is not None:
                self._send(id=number, error={"code": METHOD_NOT_FOUND, "message": "The demo does not know this."})
            case _:
                pass

    # A turn

    async def _run_turn(self, number: object, params: Mapping[str, Any]) -> None:
        prompt = "\n".join(part.get("text", "") for part in params["prompt"])
        reason = "end_turn"
        try:
            await (self._investigate() if INSTRUCTION in prompt else self._mend())
        except asyncio.CancelledError:
            reason = "cancelled"
        self._answer(number, stopReason=reason)

    async def _investigate(self) -> None:
        """Read, and end with a report."""
        self._plan("Read how the discount is computed", "Compare with the tests", done=0)
        source = await self._read(MODULE)
        self._plan("Read how the discount is computed", "Compare with the tests", done=1)
        await self._read(TESTS)
        self._plan("Read how the discount is computed", "Compare with the tests", done=2)
        self._say(f"{WHO}```json\n{json.dumps(_report(source), indent=1)}\n```\n")

    async def _mend(self) -> None:
        """Change the file, and run the tests, each with permission."""
        steps = ("Read how the discount is computed", "Mend it", "Run the tests")
        self._say(WHO)
        self._plan(*steps, done=0)
        source = await self._read(MODULE)
        self._plan(*steps, done=1)
        if WRONG in source and not await self._edit(MODULE, source, source.replace(WRONG, RIGHT)):
            self._say("You did not allow the change, so the discount stays wrong.\n")
            return
        self._plan(*steps, done=2)
        passed = await self._run_tests()
        if passed is None:
            self._say("The discount is mended. You did not allow the tests, so nothing shows that it is.\n")
            return
        self._plan(*steps, done=3)
        self._say("The discount is mended, and the tests pass.\n" if passed else "The tests still fail: see above.\n")

    async def _read(self, name: str) -> str:
        text = (self._folder / name).read_text()
        call = self._begin(kind="read", title=name, locations=[{"path": str(self._folder / name)}])
        await asyncio.sleep(PAUSE_SECONDS)
        self._end(call, "completed", text)
        return text

    async def _edit(self, name: str, old: str, new: str) -> bool:
        path = str(self._folder / name)
        diff = {"type": "diff", "path": path, "oldText": old, "newText": new}
        call = self._begin(kind="edit", title=name, locations=[{"path": path}], content=[diff])
        allowed = await self._may(call)
        if allowed:
            (self._folder / name).write_text(new)
        self._end(call, "completed" if allowed else "failed")
        return allowed

    async def _run_tests(self) -> bool | None:
        """Whether the tests passed; None when they may not run."""
        command = f"{Path(sys.executable).name} -m unittest -v"
        call = self._begin(kind="execute", title=command, rawInput={"command": command, "cwd": str(self._folder)})
        if not await self._may(call):
            self._end(call, "failed")
            return None
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-B", "-m", "unittest", "-v"),
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(TEST_SECONDS):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        passed = process.returncode == 0
        self._end(call, "completed" if passed else "failed", output.decode(errors="replace"))
        return passed

    async def _may(self, call: Mapping[str, object]) -> bool:
        """Ask for permission, and wait for the answer."""
        number = len(self._asked) + self._calls
        options = [
            {"optionId": "allow", "name": "Allow", "kind": "allow_once"},
            {"optionId": "reject", "name": "Reject", "kind": "reject_once"},
        ]
        self._asked[number] = chosen = asyncio.get_running_loop().create_future()
        params = {"sessionId": self._session, "toolCall": call, "options": options}
        self._send(id=number, method="session/request_permission", params=params)
        return await chosen == "allow"

    # Messages

    def _begin(self, **fields: object) -> dict[str, object]:
        self._calls += 1
        call = {"toolCallId": f"call-{self._calls}", "status": "pending", **fields}
        self._update("tool_call", **call)
        return call

    def _end(self, call: Mapping[str, object], status: str, text: str = "") -> None:
        content = [{"type": "content", "content": {"type": "text", "text": text}}] if text else None
        fields = {"content": content} if content is not None else {}
        self._update("tool_call_update", toolCallId=call["toolCallId"], status=status, **fields)

    def _plan(self, *steps: str, done: int) -> None:
        states = ["completed"] * done + ["in_progress"] + ["pending"] * len(steps)
        entries = [{"content": step, "priority": "medium", "status": states[n]} for n, step in enumerate(steps)]
        self._update("plan", entries=entries)

    def _say(self, text: str) -> None:
        self._update("agent_message_chunk", content={"type": "text", "text": text})

    def _update(self, kind: str, /, **fields: object) -> None:
        params = {"sessionId": self._session, "update": {"sessionUpdate": kind, **fields}}
        self._send(method="session/update", params=params)

    def _answer(self, number: object, **result: object) -> None:
        self._send(id=number, result=result)

    def _send(self, **message: object) -> None:
        sys.stdout.buffer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        sys.stdout.buffer.flush()


def _report(source: str) -> dict[str, object]:
    """The report on the discount, as `onsembl.protocol.reports.SCHEMA` has it."""
    lines = source.splitlines()
    wrong = [number for number, line in enumerate(lines, 1) if line.endswith(WRONG.rstrip())]
    if not wrong:
        return {
            "title": "The discount is right",
            "summary": f"`{MODULE}` divides the percentage by 100. There is nothing left to mend.",
            "findings": [],
            "recommendations": [],
        }
    number = wrong[0]
    return {
        "title": "A discount of 10 % gives the goods away",
        "summary": f"`{MODULE}` divides the percentage by 10 instead of 100: each discount is ten times too large.",
        "findings": [
            {
                "title": "The percentage is divided by 10",
                "severity": "high",
                "description": f"`{MODULE}:{number}`: 200 less 10 % is 0.",
                "evidence": [
                    {"file": MODULE, "line": number, "excerpt": lines[number - 1], "note": "It has to be 100."}
                ],
            },
            {
                "title": "No test has a discount above 10 %",
                "severity": "low",
                "description": "A test of 25 % would have shown a price below nothing.",
                "evidence": [],
            },
        ],
        "recommendations": [
            {"action": "Divide by 100", "priority": "high", "rationale": "The tests then pass. Ask me to mend it."},
            {"action": "Add a test of 25 %", "priority": "low", "rationale": "It is cheap."},
        ],
    }


if __name__ == "__main__":
    asyncio.run(Assistant(Path.cwd()).run())
