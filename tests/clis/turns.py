"""Runs the turns of a table of cases by a real coding CLI, and compares what they give with the table."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from clis.programs import Cli
from support.agents import FINAL, Operator, agent_running, sleepers, until
from support.api_calls import call_api
from support.archive import until_archived
from support.server import Api

SECONDS = 150.0
"""How long a turn may take: Gemini CLI waits up to a minute before it loads a conversation."""
MAY_WAIT = "notice information completed: Waits "
"""That step, which depends on the time of day: the tables do not have it."""


async def steps_of(admin: Operator, command: dict[str, Any]) -> list[dict[str, Any]]:
    listed = (await call_api(admin, "GET", f"/v1/commands/{command['id']}/steps"))["steps"]
    return sorted(listed, key=lambda step: step["number"])


def as_lines(steps: list[dict[str, Any]], folder: Path, below: int | None = None, indent: str = "") -> list[str]:
    """The tree of the steps as the table writes it: those of a subagent below its step."""
    lines: list[str] = []
    for step in (step for step in steps if step["parent"] == below):
        status = "denied" if step["denied"] else step["status"]
        title = step["title"].replace(str(folder), "FOLDER")
        head = " ".join(filter(None, (step["kind"], step["name"], status)))
        lines.append(indent + (f"{head}: {title}" if title else head))
        lines += as_lines(steps, folder, step["number"], indent + "  ")
    return lines


@asynccontextmanager
async def denying(admin: Operator) -> AsyncGenerator[None]:
    """Deny whatever waits for a person."""

    async def deny() -> None:
        while True:
            for row in (await call_api(admin, "GET", "/v1/attention?state=open"))["requests"]:
                answer = {"digest": row["digest"], "decision": {"decision": "deny", "reason": "Not allowed."}}
                await call_api(admin, "POST", f"/v1/attention/{row['id']}/answer", answer)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(deny())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def run_turn(
    api: Api, admin: Operator, folder: Path, cli: Cli, turn: dict[str, Any], conversation: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a turn by an agent that is started for it; return its command's final row, and its steps."""
    fields = {name: turn[name] for name in ("permission_mode", "limits", "rules") if name in turn}
    fields = {"permission_mode": cli.mode, **fields}
    text = turn["prompt"].strip().replace("FOLDER", str(folder))
    wanted = turn["steps"].strip().splitlines()[-1].split(":")[0].rstrip("*")

    async def reached():
        at = turn.get("interrupt_at") or turn.get("kill_agent_at")
        return at in [step["name"] for step in await steps_of(admin, command)] and await sleepers(command)

    async def to_steer():
        steps = await steps_of(admin, command)
        return turn["steer_at"] in [word for step in steps for word in (step["kind"], step["name"])]

    async def arrived():
        steps = await steps_of(admin, command)
        lines = as_lines(steps, folder)
        ended = lines and (steps[-1]["kind"] == "result" or lines[-1].startswith(wanted))
        complete = ended and all(step["status"] != "in_progress" for step in steps)
        return steps if complete else None

    async with agent_running(api, folder, kind=cli.kind, arguments=cli.arguments) as agent, denying(admin):
        await call_api(admin, "PUT", f"/v1/agents/{agent.id}/permission-mode", {"permission_mode": "full"})
        command = await admin.send(agent.id, text, conversation=conversation, **fields)
        if "interrupt_at" in turn:
            await until(reached, "the step to interrupt", SECONDS)
            await admin.cancel(command)
        if "steer_at" in turn:
            await until(to_steer, "the step during which the text is sent", SECONDS)
            text_row = await admin.send(agent.id, turn["steer"], steer=True)
            assert (await admin.until_state(text_row, *FINAL))["steer_state"] == "taken"
        if "kill_agent_at" in turn:
            await until(reached, "the step in which to kill the agent", SECONDS)
            agent.process.kill()
            await agent.process.wait()
        else:
            ended = await admin.until_state(command, *FINAL, seconds=SECONDS)
            return ended, await until(arrived, f"the last step: {wanted}")  # type: ignore[return-value]
    async with agent_running(api, folder, kind=cli.kind, arguments=cli.arguments):
        ended = await admin.until_state(command, *FINAL)
        return ended, await until(arrived, f"the last step: {wanted}")  # type: ignore[return-value]


def differences(lines: list[str], wanted: str) -> list[tuple[str, str]]:
    """The lines that are not as the table says, each with that of the table."""
    pairs = zip_longest(lines, wanted.strip().splitlines(), fillvalue="")
    return [pair for pair in pairs if pair[0] != pair[1] and not matches(*pair)]


def matches(line: str, wanted: str) -> bool:
    """Whether a line begins as one of the table that ends in `*`."""
    return wanted.endswith("*") and line.startswith(wanted[:-1])


async def check(api: Api, admin: Operator, folder: Path, cli: Cli, case: dict[str, Any]) -> None:
    """Run the turns of a case, and compare each with the table."""
    conversation = "new"
    for turn in case["turn"]:
        if "fork" in turn:
            made = await call_api(admin, "POST", f"/v1/conversations/{conversation}/fork", {}, 201)
            conversation = made["id"]
        command, steps = await run_turn(api, admin, folder, cli, turn, conversation)
        assert conversation in ("new", command["conversation_id"])
        conversation = command["conversation_id"]
        lines = [line for line in as_lines(steps, folder) if not line.startswith(MAY_WAIT)]
        assert differences(lines, turn["steps"]) == [], "\n".join([f"error: {command['error']}", *lines])
        assert command["state"] == turn["state"]
        assert [denial["tool"] for denial in command["denials"]] == turn.get("denied", [])
        if "error" in turn:
            assert command["error"] == turn["error"]
        assert await sleepers(command) == []
        if "shown" in turn:
            archived = await until_archived(api.database_url, command["stream_id"], command["output_end"])
            shown = re.sub(r"\x1b\[[0-9;]*m", "", archived[command["output_start"] :].decode())
            assert [text for text in turn["shown"] if f"{text}\r\n" not in shown] == [], shown
        for name, content in turn.get("files", {}).items():
            assert (folder / name).read_text() == content
