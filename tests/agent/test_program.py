"""`onsembl agent` as users run it, against a running API."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from support.agents import FINAL, Operator, agent_running, read_until, sleepers, until
from support.claude import put_claude_on_path
from support.forked import PIPE, STDOUT, ForkedProcess, fork_onsembl, run_forked
from support.frames import attach
from support.server import Api, running

from onsembl.agent.enrolment import credentials as store
from onsembl.api.settings import Settings
from onsembl.tasks.worker import WorkerSettings

TESTS = Path(__file__).parents[1]


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, public_url="", worker=WorkerSettings(dead_after=2.0))


@pytest.fixture
async def api(settings: Settings) -> AsyncGenerator[Api]:
    async with running(settings) as api:
        yield api


@pytest.fixture
async def operator(api) -> Operator:
    return Operator(api, await api.operator())


class Said:
    """The exit code and the output of a run of `onsembl agent …`."""

    def __init__(self, code: int, text: str) -> None:
        self.code, self.text = code, text


async def onsembl_agent(*arguments: str, given: str = "", **environment: str) -> Said:
    env = {**os.environ, **environment}
    ended = await asyncio.to_thread(run_forked, "agent", *arguments, env=env, timeout=60, given=given)
    return Said(ended.returncode, ended.stdout + ended.stderr)


def enrolling(api: Api, folder: Path, name: str = "one") -> list[str]:
    return ["enrol", "--server", api.url + "/", "--name", name, "--kind", "shell", "--state-dir", str(folder)]


@asynccontextmanager
async def the_agent(folder: Path, *arguments: str) -> AsyncIterator[ForkedProcess]:
    """An enrolled agent's program, whose output is captured."""
    process = await fork_onsembl(
        *("agent", "run", "--name", "one", "--state-dir", str(folder), "--cwd", str(folder.parent), *arguments),
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


# Enrolment


async def test_an_agent_is_enrolled_by_a_token_from_its_environment_a_file_or_a_pipe(api, tmp_path):
    """The token is never an argument; afterwards the agent has its credentials."""
    folder = tmp_path / "agents"
    said = await onsembl_agent(*enrolling(api, folder), ONSEMBL_ENROLMENT_TOKEN=await api.enrolment_token())
    assert (said.code, "Enrolled as one" in said.text) == (0, True), said.text
    (tmp_path / "token").write_text(await api.enrolment_token() + "\n")
    said = await onsembl_agent(*enrolling(api, folder, "two"), "--token-file", str(tmp_path / "token"))
    assert said.code == 0, said.text
    token = await api.enrolment_token()
    said = await onsembl_agent(*enrolling(api, folder, "three"), "--token-file", "-", given=token)
    assert said.code == 0, said.text
    assert token not in said.text
    for name in ("one", "two", "three"):
        assert store.load(folder / name).name == name
        assert store.load(folder / name).server == api.url


async def test_an_enrolment_that_fails_says_why(api, tmp_path):
    """The error is one sentence, and no credentials are stored."""
    folder = tmp_path / "agents"
    for name, token, wanted in (
        ("one", "wrong", "unknown, used or expired"),
        ("one", await api.enrolment_token("only-*"), "only enrols agents whose name matches"),
    ):
        said = await onsembl_agent(*enrolling(api, folder, name), ONSEMBL_ENROLMENT_TOKEN=token)
        assert (said.code, wanted in said.text, "Traceback" in said.text) == (1, True, False), said.text
    (tmp_path / "file").touch()
    token = await api.enrolment_token()
    said = await onsembl_agent(*enrolling(api, tmp_path / "file" / "below"), ONSEMBL_ENROLMENT_TOKEN=token)
    assert (said.code, "cannot be used" in said.text) == (1, True), said.text
    for server in ("nonsense", "ftp://x", "http://", "http://[::1"):
        said = await onsembl_agent("enrol", "--server", server, "--name", "one", "--kind", "shell")
        assert (said.code, "use a URL such as" in said.text) == (2, True), said.text
    unreachable = ["enrol", "--server", "http://127.0.0.1:1", "--name", "one", "--kind", "shell"]
    said = await onsembl_agent(*unreachable, "--state-dir", str(folder), ONSEMBL_ENROLMENT_TOKEN=token)
    assert (said.code, "cannot be reached" in said.text) == (1, True), said.text
    assert not (folder / "one" / store.FILE_NAME).exists()
    # None of the failures has used the token up.
    assert (await onsembl_agent(*enrolling(api, folder), ONSEMBL_ENROLMENT_TOKEN=token)).code == 0


# Running


@pytest.fixture
async def folder(api, tmp_path) -> Path:
    """The state folder of an enrolled agent."""
    folder = tmp_path / "agents"
    said = await onsembl_agent(*enrolling(api, folder), ONSEMBL_ENROLMENT_TOKEN=await api.enrolment_token())
    assert said.code == 0, said.text
    return folder


async def test_an_agent_needs_private_credentials_to_run(folder, tmp_path):
    """The error says what to do."""
    said = await onsembl_agent("run", "--name", "other", "--state-dir", str(folder))
    assert (said.code, "onsembl agent login" in said.text) == (1, True), said.text
    (folder / "one" / store.FILE_NAME).chmod(0o644)
    said = await onsembl_agent("run", "--name", "one", "--state-dir", str(folder))
    assert (said.code, "chmod 600" in said.text) == (1, True), said.text


async def test_rejected_credentials_end_the_agent(folder):
    """With a refresh token and a recovery secret that the server does not know, the agent does not retry for ever."""
    wrong = {"access_token": "x", "refresh_token": "onr_wrong", "recovery_secret": "onc_wrong"}
    store.save(folder / "one", msgspec.structs.replace(store.load(folder / "one"), **wrong))
    said = await onsembl_agent("run", "--name", "one", "--state-dir", str(folder))
    assert (said.code, "rejects this agent" in said.text, "Traceback" in said.text) == (1, True, False), said.text


async def test_one_agent_at_a_time_works_in_a_folder(api, operator, folder):
    """A second agent exits with an error, and does not disturb the first."""
    async with the_agent(folder) as agent:
        agent_id = store.load(folder / "one").agent_id
        await until(lambda: online(api, operator, agent_id), "online")
        said = await onsembl_agent("run", "--name", "one", "--state-dir", str(folder))
        assert (said.code, "runs already" in said.text) == (1, True), said.text
        command = await operator.send(agent_id, "true")
        assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
        assert agent.returncode is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_an_agent_that_gets_a_signal_stops_its_command_and_reports_its_end(api, operator, folder, number):
    """The server has the end and the last bytes before the agent exits with 0."""
    async with the_agent(folder) as agent:
        agent_id = store.load(folder / "one").agent_id
        command = await operator.send(
            agent_id, "trap 'echo cleaned; exit 0' INT; echo begun; while :; do sleep 0.1; done"
        )
        await operator.until_state(command, "running")
        async with api.terminal_socket(agent_id) as viewer:
            await attach(viewer, operator.headers["Authorization"].removeprefix("Bearer "))
            await read_until(viewer, b"begun\r\n")
            agent.send_signal(number)
            assert b"cleaned" in await read_until(viewer, b"cancelled \xc2\xb7 exit 0")
        told = await agent.communicate()
        assert agent.returncode == 0, told
        row = await operator.read(command)
        assert (row["state"], row["error"]) == ("cancelled", "The agent was stopped.")
        assert await sleepers(command) == []
        # The next command stays queued: an agent that stops accepts no more commands.
    waiting = await operator.send(agent_id, "true")
    async with the_agent(folder):
        assert (await operator.until_state(waiting, *FINAL))["state"] == "succeeded"


async def online(api: Api, operator: Operator, agent_id: str) -> bool:
    row = (await api.http.get(f"/v1/agents/{agent_id}", headers=operator.headers)).json()
    return row["status"] == "online"


async def test_a_command_runs_on_while_tokens_are_refreshed(settings, tmp_path):
    """A command outlives several access tokens, and its output has no gap."""
    async with running(replace(settings, agent_access_token=2.0)) as api:
        operator = Operator(api, await api.operator())
        async with agent_running(api, tmp_path) as agent, api.terminal_socket(agent.id) as viewer:
            credentials = tmp_path / "agents" / "one"
            seen = {store.load(credentials).refresh_token}
            await attach(viewer, operator.headers["Authorization"].removeprefix("Bearer "))
            command = await operator.send(agent.id, "n=0; until [ -e stop ]; do echo line $((n++)) .; sleep 0.01; done")
            shown = b""
            while len(seen) < 4:
                shown += await read_until(viewer, b".\r\n")
                seen.add(store.load(credentials).refresh_token)
            (tmp_path / "stop").touch()
            shown += await read_until(viewer, b"exit 0")
            assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
            numbers = [int(line.split()[1]) for line in shown.split(b"\r\n") if line.startswith(b"line ")]
            assert numbers == list(range(len(numbers)))


async def test_a_startup_script_is_shown_and_is_no_command(api, operator, folder, tmp_path):
    """It runs in the terminal by itself until the first command."""
    script = tmp_path / "demo.sh"
    script.write_text("printf '\\033[32mhello\\033[0m\\n'; stty size; sleep 1000")
    async with the_agent(folder, "--startup-script", str(script)):
        agent_id = store.load(folder / "one").agent_id
        async with api.terminal_socket(agent_id) as viewer:
            await attach(viewer, operator.headers["Authorization"].removeprefix("Bearer "))
            await read_until(viewer, b"\x1b[32mhello\x1b[0m\r\n32 120\r\n")
            commands = (await api.http.get("/v1/commands", headers=operator.headers)).json()["commands"]
            assert commands == []
            await viewer.send(json.dumps({"type": "resize", "columns": 99, "rows": 33}))
            command = await operator.send(agent_id, "stty size")
            await read_until(viewer, b"\r\n33 99\r\n")
            assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"


async def test_a_prompt_runs_end_to_end(api, operator, tmp_path, monkeypatch):
    """Kind `claude`: the answer is in the terminal, tokens and cost are in the command's row."""
    put_claude_on_path(tmp_path, monkeypatch)
    async with agent_running(api, tmp_path, kind="claude") as agent, api.terminal_socket(agent.id) as viewer:
        await attach(viewer, operator.headers["Authorization"].removeprefix("Bearer "))
        command = await operator.send(agent.id, "tool")
        assert b"The command printed: one\r\n" in await read_until(viewer, b"$0.0018")
        row = await operator.until_state(command, *FINAL)
        assert (row["state"], row["exit_code"], row["error"]) == ("succeeded", 0, None)
        assert (row["usage"]["input_tokens"], row["usage"]["output_tokens"]) == (200, 32)
        assert row["usage"]["cost_usd"] == pytest.approx(0.0018)
        command = await operator.send(agent.id, "interrupted KEEP_ON")
        await read_until(viewer, b"step0")
        await operator.cancel(command)
        row = await operator.until_state(command, *FINAL)
        assert (row["state"], row["cancel_step"]["step"]) == ("cancelled", "interrupt")
