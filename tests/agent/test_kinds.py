"""The kinds of agents: which CLI an agent of the kind `acp` runs, and how."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from uuid import uuid4

import pytest
from agent.conftest import TESTS

from onsembl.agent.doctor.acp import check_acp
from onsembl.agent.doctor.doctor import CHECKS
from onsembl.agent.drivers.acp.clis import KNOWN, NO_COMMAND, cli_of
from onsembl.agent.drivers.acp.driver import AcpDriver
from onsembl.agent.drivers.kinds import DRIVERS, cli_name
from onsembl.agent.errors import AgentError
from onsembl.agent.process.process import ProcessContext
from onsembl.protocol.messages import Offer
from onsembl.protocol.permissions import PERMISSION_MODES
from onsembl.protocol.states import AgentKind
from onsembl.protocol.turn_messages import TurnSettings


@pytest.fixture
def acp(tmp_path: Path, context: ProcessContext, monkeypatch: pytest.MonkeyPatch) -> ProcessContext:
    """A context whose PATH has `my-cli` and `claude-agent-acp`, which speak ACP."""
    (tmp_path / "bin").mkdir()
    for name in ("my-cli", "claude-agent-acp"):
        (tmp_path / "bin" / name).symlink_to(TESTS / "support" / "fake_gemini.py")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return replace(context, cwd=tmp_path, driver_folder=tmp_path / "driver")


async def run(
    context: ProcessContext, *arguments: str, **settings: object
) -> tuple[str | None, list[tuple[str, dict]]]:
    """Run a prompt; return the run's error, and the requests that the CLI has had."""
    turn = TurnSettings(**{"conversation": "ours", **settings})
    offer = Offer(command_id=uuid4(), text="the prompt", turn=turn)
    running = AcpDriver().start(offer, replace(context, arguments=arguments))
    async with asyncio.timeout(60):
        await running.process.exited
    await running.process.drain()
    error = running.finish()
    running.process.close()
    log = context.cwd / "requests.jsonl"
    lines = map(json.loads, log.read_text().splitlines())
    asked = [(line["method"], line.get("params", {})) for line in lines]
    log.unlink()
    return error, asked


def test_every_kind_has_a_driver_and_checks():
    """No kind is left out of a table."""
    assert set(DRIVERS) == set(CHECKS) == set(AgentKind)


def test_an_agent_names_its_cli():
    """A known one by its name, with or without arguments of its own; any other by its command."""
    assert cli_of(["opencode"]).argv == ("opencode", "acp")
    assert cli_of(["/opt/bin/goose", "acp", "--debug"]).argv == ("/opt/bin/goose", "acp", "--debug")
    assert (cli_of(["my-cli", "--acp"]).name, cli_of(["my-cli", "--acp"]).argv) == ("my-cli", ("my-cli", "--acp"))
    assert cli_name(AgentKind.ACP, ["/opt/bin/my-cli"]) == "my-cli"
    assert cli_name(AgentKind.CLAUDE, ["--model", "opus"]) is None
    with pytest.raises(AgentError, match=NO_COMMAND[:20]):
        cli_name(AgentKind.ACP, [])


def test_an_agent_tells_whether_its_cli_copies_conversations():
    """Of the kind `acp` those do that announce it; of an unknown one it is not known before it runs."""
    copies = {kind: driver.takes_forks(["my-cli"]) for kind, driver in DRIVERS.items()}
    assert {kind for kind, copied in copies.items() if copied} == {AgentKind.CLAUDE, AgentKind.CODEX}
    copying = {name for name in KNOWN if AcpDriver.takes_forks([name, "--debug"])}
    assert copying == {"opencode", "claude-agent-acp", "codex-acp"}


def test_a_known_cli_is_told_every_permission_mode_or_none():
    """None of them is laxer in a stricter mode."""
    for cli in KNOWN.values():
        assert set(cli.modes) in (set(), set(PERMISSION_MODES))
        told = [(cli.modes[mode], cli.mode_options.get(mode)) for mode in PERMISSION_MODES if cli.modes]
        steps = [mode for mode, _ in groupby(told)]
        assert len(steps) == len(set(steps))


async def test_any_cli_that_speaks_acp_runs_a_prompt(acp, shown):
    """Its conversation continues by the CLI's own id; the modes of one that is not known are left to it."""
    error, asked = await run(acp, "my-cli", "--acp")
    assert error is None and b"heard the prompt" in shown.data
    assert [method for method, _ in asked] == ["initialize", "session/new", "session/prompt"]
    error, asked = await run(acp, "my-cli", "--acp", known=True)
    assert error is None
    assert [method for method, _ in asked] == ["initialize", "session/load", "session/prompt"]
    assert asked[1][1]["sessionId"] == "the-clis-id"


async def test_a_known_cli_is_told_its_permission_mode(acp):
    """In its own words, before the prompt."""
    error, asked = await run(acp, "claude-agent-acp", permission_mode="accept_edits")
    assert error is None
    assert asked[2] == ("session/set_mode", {"sessionId": "the-clis-id", "modeId": "acceptEdits"})


@pytest.mark.parametrize(
    ("settings", "error"),
    [({"permission_mode": "plan"}, "takes no permission mode plan"), ({"model": "big"}, "takes no model from here")],
)
async def test_what_a_cli_cannot_do_ends_the_turn_before_its_prompt(acp, settings, error):
    """It says what it cannot do; no conversation is begun."""
    told, asked = await run(acp, "my-cli", **settings)
    assert error in (told or "")
    assert [method for method, _ in asked] == ["initialize"]


def test_the_doctor_finds_known_clis(tmp_path):
    """Without any it is a note, for the command may be another."""
    assert check_acp({"PATH": str(tmp_path)}).state == "note"
    program = tmp_path / "opencode"
    program.touch(mode=0o755)
    found = check_acp({"PATH": str(tmp_path)})
    assert (found.state, found.text) == ("ok", "Found: opencode.")
