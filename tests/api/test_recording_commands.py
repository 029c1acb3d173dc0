"""`onsembl export` and `onsembl search`, as an operator uses them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.command_line import CommandLine
from support.recordings import add_command, add_output, add_stream

from onsembl.protocol.states import Role
from onsembl.tasks.search_index import index_round

pytestmark = pytest.mark.no_worker


async def test_recordings_are_exported_and_searched_from_the_command_line(api, tmp_path: Path):
    """The command line exports by command, agent and stream, lists recordings with sizes, prints search hits with their
    place, and reports errors plainly."""
    account = await api.operator(Role.VIEWER)
    agent = await api.enrol("builder")
    stream = await add_stream(api, agent.id)
    await add_output(api, stream, b"$ make\r\n", b"\x1b[31merror: no rule\x1b[m\r\n", b"later\r\n")
    command = await add_command(api, agent.id, stream, "make", 0, 32)
    while await index_round(api.services.pool, all_streams=True):
        pass

    run = CommandLine(api, account, tmp_path).run
    out, err = await run("export", "command", command, "--format", "text")
    assert out == "$ make\nerror: no rule\n" and err == f"{len(out)} bytes.\n"
    file = tmp_path / "whole.cast"
    await run("export", "agent", "builder", "--format", "cast3", "-o", str(file))
    assert json.loads(file.read_text().splitlines()[0])["version"] == 3
    out, _ = await run("export", "stream", str(stream), "--start", "13", "--end", "18", "--format", "text")
    assert out == "error\n"
    out, _ = await run("export", "stream", str(stream), "--start", "13", "--end", "18", "--times")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  error\n", out), out
    _, err = await run("export", "stream", str(stream), "--times", "--format", "cast2", code=2)
    assert "--times is for plain text" in err
    out, _ = await run("recordings", "list", "builder")
    assert out.startswith(str(stream)) and "1 commands" in out
    out, _ = await run("recordings", "list", "builder", "--json")
    assert [row["id"] for row in json.loads(out)] == [str(stream)]
    out, _ = await run("recordings", "storage")
    assert out.startswith("builder ") and "search index" in out
    out, _ = await run("recordings", "storage", "--json")
    assert [row["agent_id"] for row in json.loads(out)["agents"]] == [agent.id]
    out, _ = await run("search", "no", "rule", "--agent", "builder")
    assert "error: no rule" in out and f"{stream}:8" in out
    out, _ = await run("search", "MAKE", "--in", "commands", "--json")
    assert [hit["command_id"] for hit in json.loads(out)] == [command]
    await run("search", "nowhere", code=1)
    _, err = await run("export", "command", str(stream), code=1)
    assert "Command not found." in err
    _, err = await run("export", "agent", "nobody", code=1)
    assert "There is no agent nobody." in err
