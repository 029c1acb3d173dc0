"""Files of an agent's working folder: what operators see, what they do not, and agents that do not answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.agents import Operator, agent_running, until
from support.api_calls import audit_entries, call_api
from support.command_line import CommandLine
from support.frames import HELLO, next_message
from support.server import Api

from onsembl.api.terminals import looks
from onsembl.protocol.states import Role
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker
HOSTILE = "<script>alert(1)</script> \u202egro.kcatta \x1b]0;owned\x07"


async def test_operators_look_at_the_files_of_an_agent(api, tmp_path):
    """As far as its rules show them; viewers if an admin allows it. The audit log has each look."""
    admin, viewer = Operator(api, await api.operator()), Operator(api, await api.operator(Role.VIEWER))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text(f"print()\n{HOSTILE}\n")
    (tmp_path / "src" / "big.txt").write_text('line "x"\n' * 110_000)
    (tmp_path / ".env").write_text("KEY=1")
    run = CommandLine(api, await api.operator(), tmp_path).run
    async with agent_running(api, tmp_path, options=("--files",)) as agent:
        path = f"/v1/agents/{agent.id}/files"

        async def online():
            return (await call_api(admin, "GET", f"/v1/agents/{agent.id}"))["shows_files"]

        await until(online, "the agent")
        seen = await call_api(admin, "GET", f"{path}?path=src/a.py")
        assert (seen["kind"], seen["text"]) == ("text", f"print()\n{HOSTILE}\n")
        big = await call_api(admin, "GET", f"{path}?path={tmp_path}/src/big.txt")
        assert (big["path"], big["kind"], len(big["text"])) == ("src/big.txt", "text", 990_000)
        listed = await call_api(admin, "GET", path)
        assert [entry["name"] for entry in listed["entries"]] == ["agents", "src"] and listed["hidden"] == 1
        refused = await call_api(admin, "GET", f"{path}?path=.env", status=403)
        assert "may hold secrets" in refused["detail"]
        for outside, status in (("../x", 403), ("/etc/passwd", 403), ("nothing", 404)):
            await call_api(admin, "GET", f"{path}?path={outside}", status=status)
        credentials = await call_api(admin, "GET", f"{path}?path=agents/one")
        assert not [entry["name"] for entry in credentials["entries"] if "credential" in entry["name"]]
        assert "allows it" in (await call_api(viewer, "GET", path, status=403))["detail"]

        out, _ = await run("agents", "files", "one", "src")
        assert out.splitlines()[-1].split() == ["file", "990,000", "big.txt"]
        out, _ = await run("agents", "files", "one", "src/a.py")
        assert "print()" in out and "\x1b" not in out and "\u202e" not in out
        out, _ = await run("agents", "file-rules", "one")
        assert ".env.*" in out and "do not see them" in out

        body = {"rules": {"roots": ["src"], "secrets": ["big.*"], "viewers": True}}
        await call_api(Operator(api, await api.operator(Role.OPERATOR)), "PUT", f"{path[:-5]}file-rules", body, 403)
        await call_api(admin, "PUT", f"{path[:-5]}file-rules", {"rules": {"roots": ["../x"]}}, 422)
        out, _ = await run("agents", "file-rules", "one", "--root", "src", "--secret", "big.*", "--viewers", "--json")
        assert json.loads(out)["file_rules"] == body["rules"]
        listed = await call_api(viewer, "GET", f"{path}?path=src")
        assert ([entry["name"] for entry in listed["entries"]], listed["hidden"]) == (["a.py"], 1)
        await call_api(viewer, "GET", f"{path}?path=agents", status=403)
        out, _ = await run("agents", "file-rules", "one", "--defaults")
        assert "do not see them" in out

        async with await connect(api.database_url) as conn:
            await conn.execute("""update agents set file_rules = '{"roots": 7}'""")
        assert "Set its rules" in (await call_api(admin, "GET", path, status=409))["detail"]
    async with await connect(api.database_url) as conn:
        await conn.execute("update agents set file_rules = '{}'")
    assert "offline" in (await call_api(admin, "GET", path, status=409))["detail"]
    entries = await audit_entries(api, "agent.file_%")
    assert {"name": "one", "path": ".env", "kind": "refused"} in [detail for _, detail in entries]
    assert len([action for action, _ in entries if action == "agent.file_rules_set"]) == 2


@asynccontextmanager
async def showing(api: Api, name: str, **hello: object) -> AsyncIterator[tuple[str, object]]:
    """An agent's socket whose hello has these fields, and the path of its files."""
    agent = await api.enrol(name)
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**HELLO, **hello}))
        await next_message(socket, "welcome")
        yield f"/v1/agents/{agent.id}/files", socket


def part(asked: dict, number: int, text: str, last: bool = True) -> str:
    return json.dumps(
        {"type": "look_part", "request_id": asked["request_id"], "number": number, "text": text, "last": last}
    )


async def test_an_agent_that_does_not_answer_is_a_clear_problem(api, monkeypatch):
    """One of an earlier release, one that is silent, one that answers nonsense, and one that goes. Nothing is left."""
    admin = Operator(api, await api.operator())
    async with showing(api, "old") as (path, _):
        assert "--files" in (await call_api(admin, "GET", path, status=409))["detail"]
    async with showing(api, "one", shows_files=True) as (path, socket):
        for answers, detail in (
            ([(0, '{"path": "a"')], "not understood"),
            ([(0, '{"path": "a", "kind": "rat"}')], "not understood"),
            ([(1, "{}")], "not complete"),
            ([(0, "[" * 60_000)], "not understood"),
        ):
            asking = asyncio.create_task(call_api(admin, "GET", path, status=503))
            asked = await next_message(socket, "look")
            for number, text in answers:
                await socket.send(part(asked, number, text))
            assert detail in (await asking)["detail"]
            await socket.send(part(asked, 0, "late"))
        text = json.dumps({"path": "a", "kind": "text", "text": HOSTILE})
        asking = asyncio.create_task(call_api(admin, "GET", path))
        asked = await next_message(socket, "look")
        for number, character in enumerate(text[:20]):
            await socket.send(part(asked, number, character, last=False))
        await socket.send(part(asked, 20, text[20:]))
        assert (await asking)["text"] == HOSTILE

        waiting = [asyncio.create_task(call_api(admin, "GET", path, status=503)) for _ in range(looks.MAX_WAITING)]
        for _ in waiting:
            await next_message(socket, "look")
        assert "wait for the agent" in (await call_api(admin, "GET", path, status=503))["detail"]
        await socket.close()
        assert {(await one)["detail"] for one in waiting} == {"The agent has lost its connection. Try again."}
    monkeypatch.setattr(looks, "ANSWER_SECONDS", 0.1)
    async with showing(api, "silent", shows_files=True) as (path, _):
        assert "within 0.1 seconds" in (await call_api(admin, "GET", path, status=504))["detail"]
    assert api.services.hub.looks._waiting == {}
