"""The assistant of the demo, as the agent runs it: its program, spoken to by JSON-RPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from onsembl.cli.server.demo_assistant import MODULE, PROGRAM, RIGHT, WRONG, make_shop
from onsembl.protocol.reports import INSTRUCTION, read_report

Answers = Callable[[dict[str, Any]], str | None]


@asynccontextmanager
async def assistant(folder: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    make_shop(folder)
    process = await asyncio.create_subprocess_exec(
        str(folder / PROGRAM), cwd=folder, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**20
    )
    yield process
    process.stdin.close()
    assert await process.wait() == 0


def send(process: asyncio.subprocess.Process, **message: object) -> None:
    process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


async def run_turn(process: asyncio.subprocess.Process, prompt: str, choose: Answers) -> tuple[str, str]:
    """Prompt it, answer its requests with what `choose` returns (None cancels the turn), and return how the turn ended
    and what it has written."""
    send(process, id=1, method="initialize", params={"protocolVersion": 1})
    send(process, id=2, method="session/new", params={"cwd": "/", "mcpServers": []})
    content = [{"type": "text", "text": prompt}]
    send(process, id=3, method="session/prompt", params={"sessionId": "any", "prompt": content})
    written = ""
    while True:
        message = json.loads(await process.stdout.readline())
        if message.get("method") == "session/request_permission":
            option = choose(message["params"]["toolCall"])
            if option is None:
                send(process, method="session/cancel", params={"sessionId": "any"})
            else:
                result = {"outcome": {"outcome": "selected", "optionId": option}}
                send(process, id=message["id"], result=result)
        elif message.get("id") == 3:
            return message["result"]["stopReason"], written
        else:
            update = message.get("params", {}).get("update", {})
            if update.get("sessionUpdate") == "agent_message_chunk":
                written += update["content"]["text"]


async def test_it_changes_the_shop_only_as_far_as_it_may(tmp_path: Path) -> None:
    """Denied, cancelled, allowed but for the tests, and allowed: the file and what it says agree."""

    async def mend(folder: Path, choose: Answers) -> tuple[str, str, str]:
        async with assistant(folder) as process:
            reason, written = await run_turn(process, "Mend it", choose)
        return reason, (folder / MODULE).read_text(), written

    denied, cancelled, half, whole = await asyncio.gather(
        mend(tmp_path / "denied", lambda _: "reject"),
        mend(tmp_path / "cancelled", lambda _: None),
        mend(tmp_path / "half", lambda call: "allow" if call["kind"] == "edit" else "reject"),
        mend(tmp_path / "whole", lambda _: "allow"),
    )
    assert denied[0] == "end_turn" and WRONG in denied[1] and "did not allow the change" in denied[2]
    assert cancelled[0] == "cancelled" and WRONG in cancelled[1]
    assert half[0] == "end_turn" and RIGHT in half[1] and "did not allow the tests" in half[2]
    assert whole[0] == "end_turn" and RIGHT in whole[1] and "the tests pass" in whole[2]


async def test_it_ends_an_investigation_with_a_report(tmp_path: Path) -> None:
    """The report fits the schema and names the line as it stands in the file."""
    async with assistant(tmp_path) as process:
        reason, written = await run_turn(process, f"What is wrong?\n\n{INSTRUCTION}", lambda _: "reject")
    read = read_report(written)
    assert reason == "end_turn"
    assert read.report is not None, read.problem
    evidence = read.report.findings[0].evidence[0]
    assert evidence.line is not None
    assert (tmp_path / MODULE).read_text().splitlines()[evidence.line - 1] == evidence.excerpt
