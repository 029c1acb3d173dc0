"""A command goes on while its agent's stream begins anew, and its output is that of both streams."""

from __future__ import annotations

from support.agents import FINAL, CuttableLink, Operator, agent_running, until
from support.api_calls import call_api
from support.archive import archived_bytes, until_archived
from support.claude import put_claude_on_path
from support.command_line import CommandLine

from onsembl.protocol.states import Role
from onsembl.sql.database import connect


async def forget_stream(api, agent_id: str) -> None:
    """The server has an agent without its stream, as after a database that was restored from a backup."""
    async with await connect(api.database_url) as conn:
        await conn.execute("update agents set stream_id = null where id = %s", [agent_id])


async def test_a_turn_goes_on_in_a_new_stream(api, tmp_path, monkeypatch):
    """Output, steps, recording, search and command line have the command whole, and each step at its bytes."""
    put_claude_on_path(tmp_path, monkeypatch)
    admin = Operator(api, await api.operator())

    async def read(path: str, **query: object) -> bytes:
        answer = await api.http.get(path, params=query, headers=admin.headers)
        assert answer.status_code == 200, answer.text
        return answer.content

    async with CuttableLink(api.url) as link, agent_running(api, tmp_path, kind="claude", server=link.url) as agent:

        async def presence(wanted: str):
            row = await call_api(admin, "GET", f"/v1/agents/{agent.id}")
            return row if row["status"] == wanted else None

        await admin.until_state(await admin.send(agent.id, "words"), *FINAL)
        command = await admin.send(agent.id, "tool TAKES")
        steps_path = f"/v1/commands/{command['id']}/steps"

        async def tool_ended():
            return [step for step in (await call_api(admin, "GET", steps_path))["steps"] if step["status"] != "pending"]

        (tool,) = await until(tool_ended, "the first step")
        stream = (await call_api(admin, "GET", f"/v1/agents/{agent.id}"))["stream_id"]
        await until_archived(api.database_url, stream, tool["output_start"] + 1)  # a step comes before its bytes
        link.sever()
        await until(lambda: presence("offline"), "the agent is offline")
        await forget_stream(api, agent.id)
        link.mend()
        online = await until(lambda: presence("online"), "the agent is back")
        await admin.send(agent.id, "and this", steer=True)
        command = await admin.until_state(command, *FINAL)
        assert command["state"] == "succeeded"
        first, second = command["stream_id"], online["stream_id"]
        assert first != second

        async def all_steps():
            listed = (await call_api(admin, "GET", steps_path))["steps"]
            return listed if any(step["kind"] == "result" for step in listed) else None

        steps = sorted(await until(all_steps, "the steps"), key=lambda step: step["number"])
        assert [step["kind"] for step in steps] == ["tool", "input", "message", "result"]

        run = CommandLine(api, await api.operator(Role.VIEWER), tmp_path).run
        text, _ = await run("export", "command", command["id"], "--format", "text")
        part = {"start": command["output_start"], "end": command["output_end"]}
        output = await read(f"/v1/streams/{first}/output", **part)
        streams = [await archived_bytes(api.database_url, stream) for stream in (first, second)]
        assert output == b"".join(streams)[command["output_start"] : command["output_end"]]
        assert command["output_start"] < len(streams[0]) < command["output_end"]
        assert output.count(b"tool TAKES") == text.count("tool TAKES") == 1
        assert output.count(b"The command printed: one") == text.count("The command printed: one") == 1
        assert "exit 0" in text.splitlines()[-1]
        cast = await read(f"/v1/commands/{command['id']}/recording", format="cast3")
        assert cast.count(b"The command printed: one") == 1 and b"\\u001bc" not in cast

        message = steps[2]
        assert message["output_start"] >= len(streams[0]) > steps[0]["output_start"]
        shown = await read(f"/v1/streams/{first}/output", start=message["output_start"], end=message["output_end"])
        assert shown.startswith(b"The command printed: one\r\ntwo\r\n")
        timeline = await call_api(admin, "GET", f"/v1/streams/{first}/timeline?end={command['output_end']}")
        assert timeline["stream"]["end"] == len(streams[0]) + len(streams[1])
        assert sum(each["bytes"] for each in timeline["activity"]) >= len(output)
        assert {size["start"] for size in timeline["sizes"]} >= {0, len(streams[0])}
        await call_api(admin, "GET", f"/v1/streams/{first}/modes?at={message['output_start']}")
        hits = (await call_api(admin, "GET", "/v1/search?q=printed"))["hits"]
        places = {(hit["stream_id"], hit["offset"]) for hit in hits if hit["command_id"] == command["id"]}
        assert (first, message["output_start"]) in places
        own = await call_api(admin, "GET", f"/v1/streams/{first}")
        assert own["end"] == len(streams[0])
