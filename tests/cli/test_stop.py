"""`onsembl stop` on the control center's machine and on another one."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from support.agents import Operator, agent_running
from support.control_center import SECONDS, ControlCenter, clean_environment
from support.forked import run_forked
from support.frames import HELLO_TEXT, next_message
from support.server import PASSWORD, Api, running

from onsembl.api.settings import Settings
from onsembl.protocol.states import Role


@pytest.fixture
async def api(database_url: str):
    async with running(Settings(database_url=database_url, public_url="")) as api:
        yield api


async def onsembl(*arguments: str, **environment: str) -> tuple[int, str, str]:
    ended = await asyncio.to_thread(run_forked, *arguments, env=clean_environment(**environment), timeout=SECONDS)
    return ended.returncode, ended.stdout, ended.stderr


async def test_stop_uses_the_database(api: Api, tmp_path: Path) -> None:
    """stop --wait shows each agent until it has stopped; the machine's user can lift the halt."""
    admin = Operator(api, await api.operator())
    async with agent_running(api, tmp_path) as agent:
        command = await admin.send(agent.id, "trap '' INT TERM; while :; do sleep 1000; done")
        await admin.until_state(command, "running")
        here = {"DATABASE_URL": api.database_url}
        code, out, err = await onsembl("stop", "--all", "--reason", "a drill", "--wait", **here)
        assert (code, err) == (0, "")
        assert "stopped: no process is left" in out
        assert (await admin.read(command))["cancel_reason"] == "a drill"
        code, out, _ = await onsembl("stop", "--all", "--json", **here)
        assert code == 0
        assert json.loads(out)["agents"][0]["state"] == "stopped"
        assert (await onsembl("stop", "--lift", **here))[:2] == (0, "The halt is lifted; commands start again.\n")
        code, _, err = await onsembl("stop", "--lift", **here)
        assert (code, err) == (1, "Error: The fleet is not halted.\n")


async def test_stop_uses_the_api(api: Api, tmp_path: Path) -> None:
    """stop works with a stored session, which only its owner can read; lifting needs an admin."""
    operator = await api.operator(Role.OPERATOR)
    home = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    login = ("login", "--server", api.url, "--email", operator.email)
    code, _, err = await onsembl(*login, ONSEMBL_OPERATOR_PASSWORD="wrong wrong", **home)
    assert code == 1
    assert "Invalid login credentials" in err
    code, out, err = await onsembl(*login, ONSEMBL_OPERATOR_PASSWORD=PASSWORD, **home)
    assert (code, out) == (0, f"Signed in at {api.url} as operator@example.org.\n"), err
    kept = next(tmp_path.rglob("session.json"))
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    code, out, err = await onsembl("stop", "--all", **home)
    assert code == 0, err
    assert out.startswith("Stopping everything: no agent.")
    code, _, err = await onsembl("stop", "--lift", **home)
    assert (code, err) == (1, "Error: This requires the role admin; your role is operator.\n")
    admin = await api.operator()
    scripted = {"ONSEMBL_SERVER": api.url, "ONSEMBL_TOKEN": admin.access_token}
    assert (await onsembl("stop", "--lift", **scripted))[0] == 0
    assert (await onsembl("logout", **home))[0] == 0
    assert not kept.exists()


async def test_stop_needs_exactly_one_action(tmp_path: Path) -> None:
    """stop rejects no action, two actions and a missing control center."""
    assert (await onsembl("stop"))[0] == 2
    assert (await onsembl("stop", "--all", "--lift"))[0] == 2
    assert (await onsembl("stop", "--lift", "--wait"))[0] == 2
    home = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "ONSEMBL_DATA_DIR": str(tmp_path)}
    code, _, err = await onsembl("stop", "--all", **home)
    assert code == 1
    assert "No Postgres runs" in err


async def test_a_stop_is_followed_until_it_is_lifted(api: Api) -> None:
    """How far it has come is shown without pressing again; a lift meanwhile is no success; agents get the seconds that
    the environment says."""
    agent = await api.enrol()
    here = {"DATABASE_URL": api.database_url, "ONSEMBL_HALT_SECONDS": "7"}
    assert (await onsembl("stop", "--status", **here))[:2] == (0, "The fleet is not halted.\n")
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        waiting = asyncio.create_task(onsembl("stop", "--all", "--wait", **here))
        assert (await next_message(socket, "halt"))["seconds"] == 7.0
        code, out, _ = await onsembl("stop", "--status", **here)
        assert (code, out.splitlines()[0].split()) == (1, ["one", "stopping"])
        assert (await onsembl("stop", "--lift", **here))[0] == 0
        code, out, _ = await waiting
        assert (code, out.splitlines()[-1]) == (1, "The halt was lifted.")


def test_a_local_session_needs_no_api(folder: Path, tmp_path: Path) -> None:
    """If the session's control center runs on this machine, stop uses its database while the API is down."""
    center = ControlCenter(folder).ready()
    email, password = re.search(r"Sign in with\s+(\S+)\s+and password\s+(\S+)", center.output).groups()
    home = {"XDG_STATE_HOME": str(tmp_path), "ONSEMBL_DATA_DIR": str(folder)}

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = clean_environment(**home, **environment)
        return run_forked(*arguments, env=environment, timeout=SECONDS)

    signed_in = run(*("login", "--server", center.address, "--email", email), ONSEMBL_OPERATOR_PASSWORD=password)
    assert signed_in.returncode == 0, signed_in.stderr
    center.stop(signal.SIGKILL)
    stopped = run("stop", "--all")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert stopped.stdout.startswith("Stopping everything: no agent.")
    session = tmp_path / "onsembl" / "session.json"
    session.write_text(json.dumps({**json.loads(session.read_text()), "key": "sb_publishable_of_another"}))
    other = run("stop", "--lift")
    assert (other.returncode, "cannot be reached" in other.stderr) == (1, True)
