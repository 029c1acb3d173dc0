"""The real Claude Code through agent and server, on a scripted model: it does what claude_code.toml says."""

from __future__ import annotations

import asyncio
import re
import subprocess
import tomllib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from clis.conftest import install, use
from support.agents import FINAL, Operator, agent_running, sleepers, until
from support.api_calls import call_api
from support.archive import until_archived
from support.server import Api

pytestmark = pytest.mark.clis

TABLE = tomllib.loads((Path(__file__).parent / "claude_code.toml").read_text())


async def steps_of(admin: Operator, command: dict[str, Any]) -> list[dict[str, Any]]:
    listed = (await call_api(admin, "GET", f"/v1/commands/{command['id']}/steps"))["steps"]
    return sorted(listed, key=lambda step: step["number"])


def as_lines(steps: list[dict[str, Any]], folder: Path) -> list[str]:
    """The steps as the table writes them."""
    depths: dict[int, int] = {}
    lines: list[str] = []
    for step in steps:
        depths[step["number"]] = depth = depths.get(step["parent"], -1) + 1
        status = "denied" if step["denied"] else step["status"]
        title = step["title"].replace(str(folder), "FOLDER")
        head = " ".join(filter(None, (step["kind"], step["name"], status)))
        lines.append("  " * depth + (f"{head}: {title}" if title else head))
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
    api: Api, admin: Operator, folder: Path, turn: dict[str, Any], conversation: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a turn by an agent that is started for it; return its command's final row, and its steps."""
    fields = {name: turn[name] for name in ("permission_mode", "limits", "rules") if name in turn}
    fields = {"permission_mode": "accept_edits", **fields}
    text = turn["prompt"].strip().replace("FOLDER", str(folder))
    wanted = len(turn["steps"].strip().splitlines())

    async def reached():
        at = turn.get("interrupt_at") or turn.get("kill_agent_at")
        return at in [step["name"] for step in await steps_of(admin, command)] and await sleepers(command)

    async def arrived():
        steps = await steps_of(admin, command)
        complete = len(steps) >= wanted and all(step["status"] != "in_progress" for step in steps)
        return steps if complete else None

    async with agent_running(api, folder, kind="claude") as agent, denying(admin):
        await call_api(admin, "PUT", f"/v1/agents/{agent.id}/permission-mode", {"permission_mode": "full"})
        command = await admin.send(agent.id, text, conversation=conversation, **fields)
        if "interrupt_at" in turn:
            await until(reached, "the step to interrupt")
            await admin.cancel(command)
        if "kill_agent_at" in turn:
            await until(reached, "the step in which to kill the agent")
            agent.process.kill()
            await agent.process.wait()
        else:
            ended = await admin.until_state(command, *FINAL)
            return ended, await until(arrived, f"{wanted} steps")  # type: ignore[return-value]
    async with agent_running(api, folder, kind="claude"):
        ended = await admin.until_state(command, *FINAL)
        return ended, await until(arrived, f"{wanted} steps")  # type: ignore[return-value]


async def check(api: Api, admin: Operator, folder: Path, case: dict[str, Any]) -> None:
    """Run the turns of a case, and compare each with the table."""
    conversation = "new"
    for turn in case["turn"]:
        if "fork" in turn:
            made = await call_api(admin, "POST", f"/v1/conversations/{conversation}/fork", {}, 201)
            conversation = made["id"]
        command, steps = await run_turn(api, admin, folder, turn, conversation)
        assert conversation in ("new", command["conversation_id"])
        conversation = command["conversation_id"]
        assert as_lines(steps, folder) == turn["steps"].strip().splitlines()
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


@pytest.mark.parametrize("case", TABLE["case"], ids=lambda case: case["name"])
async def test_a_case_gives_what_the_table_says(api, admin, claude, tmp_path, case):
    """State, error, steps, denials, and no process is left."""
    await check(api, admin, tmp_path, case)


@pytest.mark.parametrize("mode", TABLE["mode"])
async def test_a_permission_mode_allows_what_the_table_says(api, admin, claude, tmp_path, mode):
    """Claude Code works in this mode, runs the tools that it allows, and each other one is denied and named."""
    wanted, tools = TABLE["mode"][mode], TABLE["tool"]
    async with agent_running(api, tmp_path, kind="claude") as agent, denying(admin):
        await call_api(admin, "PUT", f"/v1/agents/{agent.id}/permission-mode", {"permission_mode": mode})
        prompt = " ".join(tools.values()).replace("FOLDER", str(tmp_path))
        command = await admin.until_state(await admin.send(agent.id, prompt), *FINAL)
        read = await call_api(admin, "GET", f"/v1/conversations/{command['conversation_id']}")

        async def ended():
            steps = await steps_of(admin, command)
            return steps if steps and steps[-1]["kind"] == "result" else None

        steps: Any = await until(ended, "the turn's end is a step")
        calls = [step for step in steps if step["kind"] == "tool"]
        ran = [name for name, step in zip(tools, calls, strict=True) if not step["denied"]]
        assert (command["state"], read["permission_mode"], ran) == ("succeeded", wanted["reported"], wanted["runs"])
        assert command["denied"] == len(tools) - len(ran)
        assert (tmp_path / "written.txt").exists() == ("write" in ran)
        assert (tmp_path / "redirected.txt").exists() == ("redirect" in ran)


@pytest.fixture(scope="session")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The newest Claude Code of the registry, if it can be had."""
    folder = tmp_path_factory.mktemp("newest")
    (folder / "package.json").write_text('{"private": true}')
    try:
        return install(folder, "install", "@anthropic-ai/claude-code@latest")
    except subprocess.CalledProcessError as error:
        print(f"not installed: {error.stderr.decode()}")
        return None


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", TABLE["case"], ids=lambda case: case["name"])
async def test_the_newest_version_is_tried(api, admin, model, newest, tmp_path, monkeypatch, case):
    """What differs from the table is printed, and decides nothing."""
    if newest is None:
        return
    use(newest, model, tmp_path, monkeypatch)
    try:
        await check(api, admin, tmp_path, case)
    except (AssertionError, TimeoutError) as error:
        print(f"differs: {str(error) or 'no answer in time'}")
