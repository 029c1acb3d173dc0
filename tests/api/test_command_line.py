"""`onsembl send` and `onsembl commands`, as an operator uses them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import BinaryIO

import pytest
from support.agents import CuttableLink, Operator, agent_running, until
from support.api_calls import call_api
from support.command_line import CommandLine
from support.forked import fork_onsembl
from support.lossy_link import LossyLink
from support.server import PASSWORD, Api

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.cli.client import rest_client
from onsembl.fleet.audit_seal import seal_new_rows
from onsembl.protocol.states import AgentKind, Role
from onsembl.sql import audit_chain
from onsembl.sql.database import connect


async def test_a_command_is_sent_and_waited_for(api: Api, tmp_path: Path):
    """`onsembl send` prints the command's output and ends with its exit code; it reads the text from standard input,
    too."""
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    async with agent_running(api, tmp_path) as agent:
        out, _ = await run("send", "--agent", "one", "--wait", "echo", "seen-$((1+1))")
        assert "seen-2" in out.splitlines()
        out, err = await run("send", "--agent", agent.id, "--wait", "-", stdin=b"echo oh; exit 7", code=7)
        assert "oh" in out.splitlines() and err == "failed, exit 7\n"
        [sent] = json.loads((await run("send", "--agent", "one", "--json", "true"))[0])
        assert sent["agent_id"] == agent.id
        out, _ = await run("send", "--all", "--wait", "true")
        assert out.split() == ["one", "succeeded"]
        out, _ = await run("send", "--all", "--wait", "false", code=1)
        assert out.split(maxsplit=1) == ["one", "failed, exit 1\n"]
    _, err = await run("send", "--agent", "nobody", "true", code=1)
    assert "There is no agent nobody." in err
    _, err = await run("send", "true", code=2)
    assert "Give one kind of target" in err


async def test_output_is_printed_as_it_arrives(api: Api, tmp_path: Path):
    """`send --wait` prints a line while the command runs, and `agent run` names the server that it has reached."""
    store.save(tmp_path / "one", await enrol(api.url, await api.enrolment_token(), "one", AgentKind.SHELL))
    line = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path)
    log, out = (tmp_path / "log").open("w+b"), (tmp_path / "out").open("w+b")
    with log, out:
        agent = await fork_onsembl(
            *("agent", "run", "--name", "one", "--state-dir", str(tmp_path), "--cwd", str(tmp_path)), stderr=log
        )
        try:
            await until_written(log, f"Connected to {api.url} as one\n")
            text = "echo begun; until [ -e go ]; do sleep 0.05; done; printf end"
            waiting = await line.start("send", "--agent", "one", "--wait", text, stdout=out)
            await until_written(out, "begun\n")
            (tmp_path / "go").touch()
            assert await waiting.wait() == 0
            await until_written(out, "begun\nend\n")
        finally:
            agent.terminate()
            await agent.wait()


async def until_written(file: BinaryIO, text: str) -> None:
    """Wait until a file that a process writes contains the text."""

    async def written() -> bool:
        return text in Path(file.name).read_text()

    await until(written, f"{text!r} is written")


async def test_the_audit_log_is_read_without_a_database(api: Api, tmp_path: Path):
    """On a machine that is only signed in, `onsembl audit` verifies and exports the log by the REST API."""
    admin = await api.operator()
    run = CommandLine(api, admin, tmp_path).run
    async with await connect(api.database_url, autocommit=True) as conn:

        async def sealed() -> bool:
            async with conn.transaction():
                await seal_new_rows(conn)
            return (await audit_chain.status(conn))["unsealed"] == 0

        await until(sealed, "every row sealed")  # Transactions of other tests may hold it back for a while.
    result = json.loads((await run("audit", "verify", "--json"))[0])
    assert result["ok"] and result["rows"] > 0
    head = result["head"]["hash"]
    assert f"Head: {head}" in (await run("audit", "verify", "--expect-head", head.upper()))[0]
    assert "WRONG" in (await run("audit", "verify", "--expect-head", "ab" * 32, code=1))[0]
    out, err = await run("audit", "export", "--action", "operator.", "--format", "csv")
    assert (len(out.splitlines()) - 1, "operator." in out) == (int(err.split()[0]), True)


class WatchedLink(CuttableLink):
    """A link that notes whether a client has asked for a command."""

    polled = False

    def passes_request(self, data: bytes) -> bool:
        self.polled = self.polled or data.startswith(b"GET /v1/commands/")
        return True


async def test_waiting_outlives_a_server_that_is_away(api: Api, tmp_path: Path):
    """While the server is down, waiting repeats its requests, and it ends with the command's exit code."""
    admin = await api.operator()
    async with agent_running(api, tmp_path) as agent, WatchedLink(api.url) as link:
        line = CommandLine(Api(link.url, api.database_url, api.http, None), admin, tmp_path)  # type: ignore[arg-type]
        text = "until [ -e go ]; do sleep 0.05; done; exit 5"
        waiting = asyncio.create_task(line.run("send", "--agent", "one", "--wait", text, code=5))
        operator = Operator(api, admin)

        async def running_and_polled() -> bool:
            listed = await call_api(operator, "GET", f"/v1/commands?agent_id={agent.id}")
            return link.polled and [command["state"] for command in listed["commands"]] == ["running"]

        await until(running_and_polled, "it runs, and is waited for")
        link.sever()

        async def asked_in_vain() -> bool:
            return link.rejected > 1

        await until(asked_in_vain, "it has asked in vain")
        (tmp_path / "go").touch()
        link.mend()
        _, err = await waiting
        assert err == "failed, exit 5\n"


async def test_a_session_is_renewed_while_something_is_waited_for(api: Api, tmp_path: Path, monkeypatch):
    """Waiting refreshes an access token that is about to expire, and stores the session for the next program."""
    account = await api.operator()
    monkeypatch.setattr(rest_client, "session_path", lambda: tmp_path / "session.json")
    monkeypatch.delenv("ONSEMBL_TOKEN", raising=False)
    session = await asyncio.to_thread(rest_client.sign_in, api.url, account.email, PASSWORD, str)

    def wait() -> None:
        with rest_client.OperatorClient(None) as client:
            client.poll("/v1/me")
            assert rest_client.stored_session() == session
            monkeypatch.setattr(rest_client, "RENEW_BEFORE_SECONDS", 10**9)  # The session's access token has expired.
            client.poll("/v1/me")
            renewed = rest_client.stored_session()
            assert renewed is not None and renewed.refresh_token != session.refresh_token

    await asyncio.to_thread(wait)


async def test_commands_are_looked_up_and_changed(api: Api, tmp_path: Path):
    """Queued commands are edited and moved, any command gets notes, commands are cancelled, and lists are filtered."""
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    await api.enrol("builder")
    await run("agents", "label", "builder", "ci", "eu")
    sent = [json.loads((await run("send", "--label", "ci", "--json", f"step {n}"))[0])[0]["id"] for n in range(3)]
    await run("commands", "edit", sent[0], "--text", "step zero", "--priority", "5")
    await run("commands", "move", sent[2], "--first")
    await run("commands", "move", sent[0], "--after", sent[1])
    out, _ = await run("commands", "show", sent[0])
    assert "step zero" in out and "ahead                2" in out
    await run("commands", "note", sent[1], "--text", "not needed", "--tag", "later")
    await run("commands", "cancel", sent[1], "--reason", "not needed")
    [found] = json.loads(
        (await run("commands", "list", "needed", "--tag", "later", "--state", "cancelled", "--json"))[0]
    )
    assert (found["id"], found["cancel_reason"]) == (sent[1], "not needed")
    out, _ = await run("commands", "list", "--agent", "builder", "--limit", "2", "step")
    assert [line.split()[0] for line in out.splitlines()] == [sent[2], sent[1]]
    _, err = await run("commands", "edit", sent[1], "--text", "too late", code=1)
    assert "The command is no longer queued: cancelled." in err
    await run("commands", "edit", sent[0], code=2)
    await run("commands", "move", sent[0], "--first", "--last", "--before", sent[2], code=2)


async def test_groups_are_followed_and_cancelled(api: Api, tmp_path: Path):
    """Groups are listed with their progress, shown with their commands, and cancelled as one."""
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    for name in ("one", "two"):
        await api.enrol(name)
    sent = json.loads((await run("send", "--all", "--json", "git pull"))[0])
    await run("send", "--agent", "one", "git push")
    out, _ = await run("groups", "list")
    [line] = out.splitlines()
    group = line.split()[0]
    assert "2 queued" in line and line.endswith("git pull")
    out, _ = await run("groups", "show", group)
    assert all(command["id"] in out for command in sent) and " two " in out
    found = json.loads((await run("commands", "list", "--group", group, "--json"))[0])
    assert {command["id"] for command in found} == {command["id"] for command in sent}
    assert (await run("groups", "cancel", group, "--reason", "wrong branch"))[0] == "2 cancelled\n"
    shown = json.loads((await run("groups", "show", group, "--json"))[0])
    assert {command["cancel_reason"] for command in shown["commands"]} == {"wrong branch"}
    _, err = await run("groups", "show", "00000000-0000-0000-0000-000000000000", code=1)
    assert "Group not found." in err


@pytest.mark.parametrize("target", [("--agent", "one"), ("--all",)])
async def test_what_is_sent_is_sent_once_though_its_answer_is_lost(api: Api, tmp_path: Path, target: tuple[str, ...]):
    """If the connection breaks after the server created the command, the repeated request returns the same command."""
    await api.enrol("one")
    operator = await api.operator(Role.OPERATOR)
    async with LossyLink(api.url) as lossy:
        run = CommandLine(api, operator, tmp_path).run
        [sent] = json.loads((await run("send", "--server", lossy.url, *target, "--json", "true"))[0])
    assert lossy.lost
    found = (await call_api(Operator(api, operator), "GET", "/v1/commands"))["commands"]
    assert [command["id"] for command in found] == [sent["id"]]
