"""Rules that the real Codex keeps itself, in its own file: an admin lets it, and then it does not ask again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clis.test_requests import answer, asked
from support.agents import FINAL, Operator, agent_running
from support.api_calls import audit_entries, call_api
from support.command_line import CommandLine

from onsembl.protocol.states import Role

pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]


def leaves_sandbox(command: str) -> str:
    """A prompt that has Codex ask for permission to run the command outside of its sandbox."""
    call = {"cmd": command, "sandbox_permissions": "require_escalated", "justification": "why"}
    return f"[call: exec_command {json.dumps(call)}] [say: Done.]"


async def test_codex_keeps_a_rule_that_an_admin_lets_it_keep(api, admin, codex, tmp_path):
    """The file that the request names gets the line that it shows, and nothing else of the user's is written. The same
    command is not asked about again in another thread, by another process; another command is. An operator who is no
    admin gets 403, and what an operator allows is kept nowhere."""
    rules = tmp_path / "home" / ".codex" / "rules" / "default.rules"
    operator = Operator(api, await api.operator(Role.OPERATOR))
    run = CommandLine(api, await api.operator(Role.ADMIN), tmp_path).run
    made = tmp_path / "made"
    script = leaves_sandbox(f"touch {made}")
    async with agent_running(api, tmp_path, kind="codex") as agent:

        async def ended(command: dict[str, Any]) -> None:
            row = await admin.until_state(command, *FINAL)
            assert (row["state"], row["error"], row["denied"]) == ("succeeded", None, 0)
            assert made.exists()
            made.unlink()

        command = await operator.send(agent.id, script, permission_mode="ask")
        (row,) = await asked(admin, command)
        (offer,) = row["body"]["cli_rules"]
        line = f'prefix_rule(pattern=["touch", "{made}"], decision="allow")'
        assert offer == {"rule": line, "file": str(rules)}
        path = f"/v1/attention/{row['id']}/answer"
        kept = {"digest": row["digest"], "decision": {"decision": "allow", "cli_rule": line}}
        await call_api(operator, "POST", path, kept, 403)
        await call_api(operator, "POST", path, {"digest": row["digest"], "decision": {"decision": "allow"}})
        await ended(command)
        assert not rules.exists()

        command = await admin.send(agent.id, script, permission_mode="ask", conversation="new")
        (row,) = await asked(admin, command)
        shown, _ = await run("attention", "show", row["id"])
        assert f"{line} (for good, in {rules}; admins)" in shown
        await run("attention", "answer", row["id"], "--allow", "--cli-rule", line)
        await ended(command)
        assert rules.read_text().splitlines() == [line]
        detail = [detail for _, detail in await audit_entries(api, "attention.answered")][-1]
        assert detail["cli_rule"] == offer

        command = await operator.send(agent.id, script, permission_mode="ask", conversation="new")
        await ended(command)
        command = await operator.send(agent.id, leaves_sandbox(f"touch {made}2"), permission_mode="ask")
        (row,) = await asked(admin, command)
        await call_api(
            operator,
            "POST",
            f"/v1/attention/{row['id']}/answer",
            {"digest": row["digest"], "decision": {"decision": "deny"}},
        )
        await operator.until_state(command, *FINAL)
        assert not Path(f"{made}2").exists()


_UNDER_AN_ADMINISTRATOR = """#!/bin/sh
exec unshare --mount sh -c '
    mount -t tmpfs none "$0" && mkdir -p "$0/upper/codex" "$0/work" &&
    printf "[experimental_network]\\nenabled = true\\n" > "$0/upper/codex/requirements.toml" &&
    mount -t overlay overlay -o "lowerdir=/etc,upperdir=$0/upper,workdir=$0/work" /etc && exec "$@"
' SCRATCH REAL "$@"
"""
"""Runs Codex with an `/etc/codex` of its own, by which the machine's administrator orders its network proxy."""


@pytest.fixture
def proxied_codex(codex: None, tmp_path: Path) -> None:
    """A Codex whose commands reach hosts through its proxy alone, which asks about each host."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        pytest.skip("Only root may give Codex an /etc of its own.")
    program, scratch = tmp_path / "bin" / "codex", tmp_path / "etc"
    script = _UNDER_AN_ADMINISTRATOR.replace("SCRATCH", str(scratch)).replace("REAL", str(program.resolve()))
    scratch.mkdir()
    program.unlink()
    program.write_text(script)
    program.chmod(0o755)


def reaches(host: str) -> str:
    """A prompt for a command that connects to a host. No host is there: the command fails."""
    return f"[run: {sys.executable} -c \"import urllib.request as r; r.urlopen('http://{host}/')\"] [say: Done.]"


async def test_codex_keeps_a_rule_for_a_host_that_an_admin_lets_it_keep(api, admin, proxied_codex, tmp_path):
    """The request names the host; the file gets the line that it shows, and the host is not asked about again."""
    rules = tmp_path / "home" / ".codex" / "rules" / "default.rules"
    async with agent_running(api, tmp_path, kind="codex") as agent:
        command = await admin.send(agent.id, reaches("a.example"), permission_mode="ask")
        (row,) = await asked(admin, command)
        assert row["title"] == "shell_network http a.example"
        line = 'network_rule(host="a.example", protocol="http", decision="allow", '
        line += 'justification="Allow http access to a.example")'
        assert row["body"]["cli_rules"] == [{"rule": line, "file": str(rules)}]
        await answer(admin, row, "allow", cli_rule=line)
        assert (await admin.until_state(command, *FINAL))["state"] == "succeeded"
        assert rules.read_text().splitlines() == [line]

        command = await admin.send(agent.id, reaches("a.example"), permission_mode="ask", conversation="new")
        assert (await admin.until_state(command, *FINAL))["state"] == "succeeded"
        command = await admin.send(agent.id, reaches("b.example"), permission_mode="ask", conversation="new")
        (row,) = await asked(admin, command)
        assert row["title"] == "shell_network http b.example"
        await answer(admin, row, "deny")
        await admin.until_state(command, *FINAL)
        assert rules.read_text().splitlines() == [line]
