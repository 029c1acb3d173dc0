"""Files that go with a prompt: stored, given to the agent that runs the command, and removed."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode

import pytest
from support.agents import FINAL, Operator, agent_running
from support.api_calls import audit_entries, call_api
from support.attached import store
from support.claude import put_claude_on_path
from support.command_line import CommandLine
from support.frames import HELLO, next_message

from onsembl.protocol.attachments import MAX_ATTACHMENT_BYTES
from onsembl.protocol.states import Role
from onsembl.sql import attachments
from onsembl.sql.database import connect

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
SECRET = b"the content of a file"


@pytest.fixture
async def admin(api) -> Operator:
    return Operator(api, await api.operator())


async def test_a_coding_cli_gets_the_files_of_its_prompt(api, admin, tmp_path, monkeypatch, caplog):
    """Images as images and every file as a path in a private folder, which is removed at the end; the audit log has
    their names, types, sizes and hashes, and no log has their content."""
    put_claude_on_path(tmp_path, monkeypatch)
    (tmp_path / "shot.png").write_bytes(PNG)
    (tmp_path / "notes – é.txt").write_bytes(SECRET)
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    async with agent_running(api, tmp_path, kind="claude"):
        image, text = str(tmp_path / "shot.png"), str(tmp_path / "notes – é.txt")
        out, _ = await run(
            "send", "--agent", "one", "--image", image, "--file", text, "--file", image, "words", "--json"
        )
        [sent] = json.loads(out)
        ended = await admin.until_state(sent, *FINAL)
        assert (ended["state"], ended["error"]) == ("succeeded", None)
    called = json.loads((tmp_path / "called.json").read_text())
    assert [(source["media_type"], b64decode(source["data"])) for source in called["images"]] == [("image/png", PNG)]
    folder = tmp_path / "agents" / "one" / "attachments" / sent["id"]
    assert called["files"] == {
        str(folder / "shot.png"): [PNG.hex(), "0o100600"],
        str(folder / "notes – é.txt"): [SECRET.hex(), "0o100600"],
        str(folder / "3" / "shot.png"): [PNG.hex(), "0o100600"],
    }
    assert f"--add-dir={folder}" in called["argv"]
    assert not folder.exists()
    [(_, detail)] = await audit_entries(api, "command.requested")
    assert detail["attachments"] == sent["turn"]["attachments"] == ended["turn"]["attachments"]
    assert [(file["name"], file["media_type"], file["size"]) for file in detail["attachments"]] == [
        ("shot.png", "image/png", len(PNG)),
        ("notes – é.txt", "application/octet-stream", len(SECRET)),
        ("shot.png", "application/octet-stream", len(PNG)),
    ]
    assert detail["attachments"][1]["sha256"] == hashlib.sha256(SECRET).hexdigest()
    assert SECRET.decode() not in caplog.text


@pytest.mark.no_worker
async def test_a_file_is_for_the_agent_that_runs_its_command(api, admin, tmp_path):
    """Nobody else can fetch it, and not before nor after; what cannot be sent is refused in words."""
    agent, other = await api.enrol("one", "claude"), await api.enrol("two", "claude")
    shell = await api.enrol("three")
    operator = Operator(api, await api.operator(Role.OPERATOR))
    viewer = Operator(api, await api.operator(Role.VIEWER))
    await store(viewer, b"x", status=403)
    await store(operator, b"", status=422)
    await store(operator, b"x", name="../x", status=400)
    await store(operator, b"x", name="..", status=400)
    assert "no PNG" in (await store(operator, b"<svg/>", kind="image/svg+xml", status=415))["detail"]
    await store(operator, bytes(MAX_ATTACHMENT_BYTES + 1), status=413)
    whole = await store(operator, bytes(MAX_ATTACHMENT_BYTES))
    file = await store(operator, SECRET)
    body = {"text": "x", "attachments": [file["id"]]}

    async def fetch(token: str) -> tuple[int, bytes]:
        answer = await api.http.get(f"/v1/agent/attachments/{file['id']}", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code, answer.content if answer.is_success else b""

    async def refused(sender: Operator, to: str, body: dict) -> str:
        return (await call_api(sender, "POST", f"/v1/agents/{to}/commands", body, 422))["detail"]

    assert (await fetch(agent.access_token))[0] == 404
    assert "You have stored no such file" in await refused(admin, agent.id, body)
    assert "kind shell" in await refused(operator, shell.id, body)
    assert "takes no files" in await refused(operator, agent.id, {**body, "steer": True})
    both = [file["id"], whole["id"]]
    assert "the limit is 10,485,760" in await refused(operator, agent.id, {**body, "attachments": both})
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**HELLO, "kind": "claude"}))
        await next_message(socket, "welcome")
        assert "gives its coding CLI no files" in await refused(operator, agent.id, body)
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**HELLO, "kind": "claude", "takes_attachments": True}))
        await next_message(socket, "welcome")
        sent = await call_api(operator, "POST", f"/v1/agents/{agent.id}/commands", body, 201)
        offer = await next_message(socket, "offer")
        assert offer["turn"]["attachments"] == [file]
        assert await fetch(agent.access_token) == (200, SECRET)
        assert (await fetch(other.access_token))[0] == 404
        assert (await fetch(operator.headers["Authorization"].removeprefix("Bearer ")))[0] == 401
        async with await connect(api.database_url) as conn:
            await conn.execute("update attachments set created_at = now() - interval '40 days'")
            assert await attachments.forget(conn, unsent_hours=24, days=30) == 1  # the one that no command has
            await conn.execute("update commands set state = 'succeeded' where id = %s", [sent["id"]])
            await conn.commit()
            assert (await fetch(agent.access_token))[0] == 404
            assert await attachments.forget(conn, unsent_hours=24, days=30) == 1
    group = {**body, "target": {"agents": ["one", "two"]}, "attachments": [(await store(operator, b"y"))["id"]]}
    made = await call_api(operator, "POST", "/v1/groups", group, 201)
    assert {row["turn"]["attachments"][0]["size"] for row in made["commands"]} == {1}


@pytest.mark.no_worker
async def test_files_that_no_command_has_are_limited(api, admin, monkeypatch):
    """An operator cannot fill the database with files; those of a command do not count."""
    monkeypatch.setattr("onsembl.api.routes.attachments.MAX_UNSENT_BYTES", 10)
    agent = await api.enrol("one", "claude")
    file = await store(admin, bytes(8))
    await store(admin, bytes(8), status=409)
    await call_api(admin, "POST", f"/v1/agents/{agent.id}/commands", {"text": "x", "attachments": [file["id"]]}, 201)
    await store(admin, bytes(8))


async def test_a_damaged_or_missing_file_ends_the_command_in_words(api, admin, tmp_path, monkeypatch):
    """The prompt is not sent without its file, and the next command runs."""
    put_claude_on_path(tmp_path, monkeypatch)
    async with agent_running(api, tmp_path, kind="claude") as agent:
        await call_api(admin, "POST", f"/v1/agents/{agent.id}/pause", {})
        sent: list[dict] = []
        for change in ("update attachments set content = 'other'", "delete from attachments"):
            file = await store(admin, SECRET, name="a.txt")
            sent.append(await admin.send(agent.id, "words", attachments=[file["id"]]))
            async with await connect(api.database_url) as conn:
                await conn.execute(f"{change} where id = %s".encode(), [file["id"]])
                await conn.commit()
        sent.append(await admin.send(agent.id, "words"))
        await call_api(admin, "POST", f"/v1/agents/{agent.id}/resume", {})
        ended = [await admin.until_state(row, *FINAL) for row in sent]
    assert [(row["state"], row["error"]) for row in ended] == [
        ("failed", "The file a.txt has arrived damaged."),
        ("failed", "The file a.txt cannot be fetched: File not found."),
        ("succeeded", None),
    ]
    assert not list((tmp_path / "agents" / "one" / "attachments").glob("*"))
