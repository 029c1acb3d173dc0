"""The real coding CLIs pass on the form of an MCP server of the user, which waits for a person."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from clis.programs import CLAUDE, CLAUDE_BY_ACP, CODEX, Cli
from clis.test_requests import answer, asked
from support import eliciting_server
from support.agents import FINAL, agent_running, until
from support.api_calls import call_api

pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]

ANSWERS = "answers.jsonl"


def _arguments(home: Path) -> list[str]:
    return [eliciting_server.__file__, str(home / ANSWERS)]


def _claude(home: Path) -> None:
    server = {"type": "stdio", "command": sys.executable, "args": _arguments(home)}
    (home / ".claude.json").write_text(json.dumps({"mcpServers": {"deploy": server}}))


def _codex(home: Path) -> None:
    with (home / ".codex" / "config.toml").open("a") as config:
        command, arguments = json.dumps(sys.executable), json.dumps(_arguments(home))
        config.write(f"[mcp_servers.deploy]\ncommand = {command}\nargs = {arguments}\n")


@dataclass(frozen=True)
class Forms:
    """How a CLI calls the tool, and `add` names the server in its own settings."""

    cli: Cli
    tool: str
    add: Callable[[Path], None]
    server: str = "deploy"
    mode: str = "full"


FORMS = {
    "claude": Forms(CLAUDE, "mcp__deploy__fill", _claude),
    "codex": Forms(CODEX, "mcp__deploy.fill", _codex, mode="ask"),
    "claude by ACP": Forms(CLAUDE_BY_ACP, "mcp__deploy__fill", _claude, server=""),
}


@pytest.fixture(params=FORMS)
def forms(
    request: pytest.FixtureRequest, pinned: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Forms:
    found = FORMS[request.param]
    found.cli.use(pinned, model, tmp_path, monkeypatch)
    found.add(tmp_path / "home")
    return found


async def test_a_form_waits(api, admin, forms, tmp_path):
    """It is filled in, declined, and closed; the MCP server has each answer in its own words."""
    content = {"place": "staging", "copies": 2}
    decisions = [
        ({"decision": "form", "content": json.dumps(content)}, {"action": "accept", "content": content}),
        ({"decision": "deny"}, {"action": "decline"}),
        ({"decision": "deny", "cancel": True}, {"action": "cancel"}),
    ]
    async with agent_running(api, tmp_path, kind=forms.cli.kind, arguments=forms.cli.arguments) as agent:
        await call_api(admin, "PUT", f"/v1/agents/{agent.id}/permission-mode", {"permission_mode": "full"})
        for decision, _ in decisions:
            command = await admin.send(agent.id, f"[call: {forms.tool} {{}}]", permission_mode=forms.mode)
            if forms.mode == "ask":
                (call,) = await asked(admin, command)
                assert (call["kind"], call["title"]) == ("permission", "deploy.fill")
                await answer(admin, call, "allow")

            async def form_asked():
                found = (await call_api(admin, "GET", "/v1/attention?state=open&kind=elicitation"))["requests"]
                return found[0] if found else None

            row = await until(form_asked, "the form waits")
            assert isinstance(row, dict)
            assert (row["kind"], row["body"]["server"]) == ("elicitation", forms.server)
            assert json.loads(row["body"]["schema"])["properties"]["place"]["enum"] == ["staging", "production"]
            await answer(admin, row, **decision)
            ended = await admin.until_state(command, *FINAL)
            assert (ended["state"], ended["error"]) == ("succeeded", None)
    answers = (tmp_path / "home" / ANSWERS).read_text().splitlines()
    assert [json.loads(line) for line in answers] == [given for _, given in decisions]
