"""The real Claude Code through agent and server, on a scripted model: it does what claude_code.toml says."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from clis.conftest import install
from clis.programs import CLAUDE
from clis.turns import check, denying, steps_of
from support.agents import FINAL, agent_running, until
from support.api_calls import call_api
from support.case_tables import table

pytestmark = pytest.mark.clis

TABLE = table("claude_code")


@pytest.mark.parametrize("case", TABLE["case"], ids=lambda case: case["name"])
async def test_a_case_gives_what_the_table_says(api, admin, claude, tmp_path, case):
    """State, error, steps, denials, and no process is left."""
    await check(api, admin, tmp_path, CLAUDE, case)


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
    CLAUDE.use(newest, model, tmp_path, monkeypatch)
    try:
        await check(api, admin, tmp_path, CLAUDE, case)
    except (AssertionError, TimeoutError) as error:
        print(f"differs: {str(error) or 'no answer in time'}")
