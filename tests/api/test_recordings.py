"""Recordings over the API: ranges, times, timelines and exports."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from datetime import timedelta
from uuid import uuid4

import pytest
from support.recordings import NOON, add_command, add_commands, add_output, add_size, add_stream

from onsembl.api.terminals.recording import Part, Text, record
from onsembl.protocol.plain_text import MAX_LINE
from onsembl.protocol.states import Role
from onsembl.sql import recordings
from onsembl.sql.database import create_pool

pytestmark = pytest.mark.no_worker


@pytest.fixture
async def viewer(api) -> dict:
    return (await api.operator(Role.VIEWER)).headers


@pytest.fixture
async def agent(api):
    return await api.enrol()


@pytest.fixture
async def stream(api, agent):
    """Ten pieces of output, one each second: `0000`, `1111`, and so on."""
    stream_id = await add_stream(api, agent.id)
    await add_output(api, stream_id, *(str(digit).encode() * 4 for digit in range(10)))
    return stream_id


LONG = 12_000_000


def second(number: float) -> str:
    return (NOON + timedelta(seconds=number)).isoformat()


async def test_a_range_is_answered_by_offset_or_time(api, viewer, stream):
    """A range by offset or time answers with the unchanged bytes, and headers name the range."""
    for query, places, content in (
        ({}, (0, 40), b"0000111122223333444455556666777788889999"),
        ({"start": 3, "end": 9}, (3, 9), b"011112"),
        ({"start": 38, "end": 999}, (38, 40), b"99"),
        ({"since": second(2), "until": second(4)}, (8, 16), b"22223333"),
        ({"since": second(8.5)}, (36, 40), b"9999"),
        ({"since": second(1), "end": 6}, (4, 6), b"11"),
        ({"start": 40}, (40, 40), b""),
        ({"start": 99}, (99, 99), b""),
    ):
        answer = await api.http.get(f"/v1/streams/{stream}/output", params=query, headers=viewer)
        assert answer.status_code == 200, answer.text
        assert answer.content == content
        assert (int(answer.headers["Onsembl-Start"]), int(answer.headers["Onsembl-End"])) == places


async def test_pieces_come_with_their_times(api, viewer, stream):
    """Pieces come with their times, as raw bytes without base64 or JSON."""
    answer = await api.http.get(f"/v1/streams/{stream}/pieces", params={"start": 2, "end": 10}, headers=viewer)
    data, seen = answer.content, []
    while data:
        milliseconds, length = struct.unpack_from("<qI", data)
        seen.append((milliseconds / 1000 - NOON.timestamp(), data[12 : 12 + length]))
        data = data[12 + length :]
    assert seen == [(0, b"00"), (1, b"1111"), (2, b"22")]


async def test_a_range_that_makes_no_sense_is_refused(api, viewer, stream):
    """An invalid range answers 400 with the reason."""
    for query in (
        {"start": -1},
        {"start": 2**63},
        {"start": "x"},
        {"since": "2026-05-05T12:00:00"},
        {"start": 1, "since": second(1)},
        {"start": 9, "end": 3},
        {"from": 3},
    ):
        for path in ("output", "pieces", "recording"):
            answer = await api.http.get(f"/v1/streams/{stream}/{path}", params=query, headers=viewer)
            assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json"), query


async def test_what_is_kept_no_longer_is_gone(api, viewer, agent):
    """A range that retention has deleted answers 410; a range that is partly deleted answers with the rest and its
    beginning."""
    stream_id = await add_stream(api, agent.id)
    old = (-60 * 86400, -40 * 86400)
    for after in old:
        await add_output(api, stream_id, b"old!", after=after)
    await add_output(api, stream_id, b"kept", after=0)
    async with api.services.pool.connection() as conn:
        await conn.execute("select onsembl.make_archive_partitions(0)")
        await conn.execute("select onsembl.drop_archive_partitions((now()::date - %s::date) + 1)", [NOON])
    path = f"/v1/streams/{stream_id}"
    assert (await api.http.get(path, headers=viewer)).json()["start"] == 8
    answer = await api.http.get(f"{path}/output", params={"end": 6}, headers=viewer)
    assert answer.status_code == 410 and "8" in answer.json()["detail"]
    answer = await api.http.get(f"{path}/output", params={"start": 3}, headers=viewer)
    assert (answer.content, answer.headers["Onsembl-Start"]) == (b"kept", "8")


async def test_streams_are_listed_with_what_is_kept(api, viewer, agent, stream):
    """Streams are listed newest first, in pages, with times and sizes; disk usage is listed by agent."""
    later = [str(await add_stream(api, agent.id)) for _ in range(3)]
    await add_command(api, agent.id, stream, "ls", 4, 8)
    seen, before = [], {}
    while True:
        answer = await api.http.get(f"/v1/agents/{agent.id}/streams", params={"limit": 2, **before}, headers=viewer)
        seen += answer.json()["streams"]
        if answer.json()["next_before"] is None:
            break
        before = {"before": answer.json()["next_before"]}
    assert [row["id"] for row in seen] == [*reversed(later), str(stream)]
    row = seen[-1]
    assert (row["start"], row["end"], row["commands"], row["agent_name"]) == (0, 40, 1, "one")
    assert row["began_at"].startswith(f"{NOON:%Y-%m-%d}T12:00:00") and row["stored"] > 0
    assert seen[0]["began_at"] is None
    used = (await api.http.get("/v1/storage", headers=viewer)).json()
    assert used["agents"] == [{"agent_id": agent.id, "stored": row["stored"]}]
    assert used["archive"] > row["stored"] and used["search"] > 0
    assert (await api.http.get(f"/v1/streams/{stream}", headers=viewer)).json() == row


async def test_a_timeline_has_activity_and_sizes(api, viewer, stream):
    """A timeline has the output of equal parts of the time, and the terminal's sizes."""
    await add_size(api, stream, 0, 100, 30)
    await add_output(api, stream, b"x" * 60, after=20)
    answer = (await api.http.get(f"/v1/streams/{stream}/timeline", params={"parts": 10}, headers=viewer)).json()
    assert [(row["part"], row["start"], row["bytes"]) for row in answer["activity"]] == [(0, 0, 40), (9, 40, 60)]
    assert [(row["start"], row["columns"], row["rows"]) for row in answer["sizes"]] == [(0, 100, 30)]


async def test_a_streams_commands_come_in_pages(api, viewer, agent, stream):
    """A stream's commands come in pages in the order of their output, with the beginning of a long text."""
    for text, start in (("third", 8), ("first", 4), ("fourth " + "x" * 500, 8), ("second", 7), ("last", 39)):
        await add_command(api, agent.id, stream, text, start, start)
    path = f"/v1/streams/{stream}/commands"
    for query, wanted in (
        ({}, ["first", "second", "third", "fourth", "last"]),
        ({"start": 7, "end": 39}, ["second", "third", "fourth"]),
    ):
        seen, more = [], {}
        while True:
            page = (await api.http.get(path, params={**query, **more, "limit": 1}, headers=viewer)).json()
            seen += page["commands"]
            if page["next_cursor"] is None:
                break
            more = {"cursor": page["next_cursor"]}
        assert [row["text"].split()[0] for row in seen] == wanted
        assert max(len(row["text"]) for row in seen) == 200
    for cursor in ("x", "[1]", "[-1,2]", f"[{2**63},1]"):
        assert (await api.http.get(path, params={"cursor": cursor}, headers=viewer)).status_code == 400


async def test_the_modes_of_a_place_are_those_of_its_command(api, viewer, agent):
    """The modes at an offset are those that its command has set before it, even megabytes before; a command begins
    without modes."""
    stream_id = await add_stream(api, agent.id)
    first = [b"$ htop\r\n\x1b[?1049h\x1b[?25l", *[b"x" * 250_000] * 40, b"\x1b[?2004h", b"y" * 100]
    await add_output(api, stream_id, *first)
    size = sum(map(len, first))
    await add_output(api, stream_id, b"$ ls\r\n")
    await add_command(api, agent.id, stream_id, "htop", 0, size)
    await add_command(api, agent.id, stream_id, "ls", size, None)
    for at, wanted in (
        (0, ""),
        (20, "\x1b[?1049h"),
        (size - 100, "\x1b[?1049h\x1b[?25l\x1b[?2004h"),
        (size - 101, "\x1b[?1049h\x1b[?25l"),
        (size + 3, ""),
        (2**62, ""),
    ):
        answer = await api.http.get(f"/v1/streams/{stream_id}/modes", params={"at": at}, headers=viewer)
        assert answer.json() == {"modes": wanted}, at
    answer = await api.http.get(f"/v1/streams/{stream_id}/modes", headers=viewer)
    assert answer.status_code == 400


async def test_nobody_reads_back_without_a_role(api, agent, stream):
    """Every route requires an operator's token, and answers 404 for a stream, command or agent that does not exist."""
    for path in (
        f"/v1/streams/{stream}",
        f"/v1/streams/{stream}/output",
        f"/v1/streams/{stream}/pieces",
        f"/v1/streams/{stream}/timeline",
        f"/v1/streams/{stream}/commands",
        f"/v1/streams/{stream}/modes?at=0",
        f"/v1/streams/{stream}/recording",
        f"/v1/agents/{agent.id}/streams",
        f"/v1/agents/{agent.id}/recording",
        f"/v1/commands/{uuid4()}/recording",
        "/v1/storage",
    ):
        assert (await api.http.get(path)).status_code == 401, path
    headers = (await api.operator(Role.VIEWER)).headers
    for path in (
        "streams/{}",
        "streams/{}/output",
        "streams/{}/commands",
        "streams/{}/modes?at=0",
        "agents/{}/streams",
        "agents/{}/recording",
        "commands/{}/recording",
    ):
        assert (await api.http.get(f"/v1/{path.format(uuid4())}", headers=headers)).status_code == 404, path


def events(text: str) -> tuple[dict, list]:
    head, *rest = (json.loads(line) for line in text.splitlines())
    return head, rest


async def test_a_command_is_exported_alone(api, viewer, agent, stream):
    """A command's export has its bytes, the terminal's size and a marker with its text, and is in the audit log."""
    await add_size(api, stream, 0, 100, 30)
    await add_size(api, stream, 14, 90, 20)
    command = await add_command(api, agent.id, stream, "make test", 6, 17)
    path = f"/v1/commands/{command}/recording"
    answer = await api.http.get(path, params={"format": "cast3"}, headers=viewer)
    assert answer.headers["Content-Type"] == "application/x-asciicast"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="one-')
    head, rest = events(answer.text)
    assert head["term"]["cols"] == 100 and head["title"] == "make test"
    assert rest == [
        [0, "m", "make test"],
        [0, "o", "11"],
        [1, "o", "2222"],
        [1, "o", "33"],
        [0, "r", "90x20"],
        [0, "o", "33"],
        [1, "o", "4"],
    ]
    head, rest = events((await api.http.get(path, params={"format": "cast2"}, headers=viewer)).text)
    assert head["width"] == 100 and rest[-1] == [3, "o", "4"]
    answer = await api.http.get(path, params={"format": "text"}, headers=viewer)
    assert (answer.text, answer.headers["Content-Type"]) == ("11222233334\n", "text/plain; charset=utf-8")
    admin = (await api.operator()).headers
    logged = (await api.http.get("/v1/audit", params={"action": "recording.exported"}, headers=admin)).json()["events"]
    assert [(row["target_kind"], row["target_id"], row["actor_name"]) for row in logged] == [
        ("command", command, "viewer@example.org")
    ] * 3
    assert (await api.http.get(path, params={"format": "gif"}, headers=viewer)).status_code == 400


async def test_a_text_has_the_time_of_each_line(api, viewer, agent):
    """A line's time is that of its first byte, in UTC, also where its end comes later, it is cut into parts for its
    length, or another stream follows."""
    stream_id = await add_stream(api, agent.id)
    await add_output(api, stream_id, b"one\nt", b"w", b"o\n\nthree" + b"x" * MAX_LINE, b"y\nlast")
    path = f"/v1/streams/{stream_id}/recording"
    lines = (await api.http.get(path, params={"format": "text_times"}, headers=viewer)).text.splitlines()
    times = [(NOON + timedelta(seconds=number)).isoformat(timespec="milliseconds") for number in range(4)]
    first, second, third, fourth = (time.replace("+00:00", "Z") for time in times)
    long = "three" + "x" * MAX_LINE + "y"
    assert lines == [f"{first}  one", f"{first}  two", f"{third}  ", f"{third}  {long}", f"{fourth}  last"]
    text = Text(times=True)
    written = (
        text.output(NOON, b"cut") + text.reset(NOON) + text.output(NOON + timedelta(seconds=1), b"next\n") + text.end()
    )
    assert written.decode().splitlines() == [f"{first}  cut", f"{second}  next"]


async def test_every_command_of_a_long_recording_is_marked(api, viewer, agent):
    """An export has a marker before the first byte of each of 2500 commands."""
    stream_id = await add_stream(api, agent.id)
    await add_output(api, stream_id, *[b"."] * 2500)
    await add_commands(api, agent.id, stream_id, 2500, 0)
    answer = await api.http.get(f"/v1/streams/{stream_id}/recording", headers=viewer)
    _, rest = events(answer.text)
    assert [(code, text) for _, code, text in rest] == [
        event for number in range(2500) for event in (("m", f"command {number + 1}"), ("o", "."))
    ]


async def test_a_command_that_runs_is_exported_as_far_as_it_is(api, viewer, agent, stream):
    """The export of a running command ends at the last archived byte."""
    command = await add_command(api, agent.id, stream, "tail -f", 36, None)
    answer = await api.http.get(f"/v1/commands/{command}/recording", params={"format": "text"}, headers=viewer)
    assert answer.text == "9999\n"


async def test_a_command_whose_last_bytes_are_missing_is_not_cut_short(api, viewer, agent, stream, monkeypatch):
    """An export without a command's last bytes answers 503 while its agent may still send these, and else has all
    archived bytes."""
    monkeypatch.setattr("onsembl.api.routes.recordings.ARCHIVED_SECONDS", 0.05)
    path = f"/v1/commands/{await add_command(api, agent.id, stream, 'make', 36, 50)}/recording"
    async with api.services.pool.connection() as conn:
        await conn.execute("update agents set stream_id = %s", [stream])
    answer = await api.http.get(path, params={"format": "text"}, headers=viewer)
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert "10 bytes" in answer.json()["detail"] and answer.headers["Retry-After"]
    later = await add_stream(api, agent.id)
    async with api.services.pool.connection() as conn:
        await conn.execute("update agents set stream_id = %s", [later])
    answer = await api.http.get(path, params={"format": "text"}, headers=viewer)
    assert (answer.text, answer.headers["Onsembl-Bytes"]) == ("9999\n", "4")


async def test_a_command_that_never_ran_has_no_recording(api, agent, stream):
    """The recording of a command that has not run answers 409."""
    admin = (await api.operator()).headers
    sent = await api.http.post(f"/v1/agents/{agent.id}/commands", json={"text": "ls"}, headers=admin)
    answer = await api.http.get(f"/v1/commands/{sent.json()['id']}/recording", headers=admin)
    assert answer.status_code == 409


async def test_an_agents_time_is_exported_across_its_terminals(api, viewer, agent, stream):
    """An agent's export has its streams one after the other, with a reset of the terminal between."""
    second_stream = await add_stream(api, agent.id)
    await add_size(api, second_stream, 0, 60, 20)
    await add_output(api, second_stream, b"late", b"later", after=30)
    span = {"since": second(8), "until": second(31)}
    answer = await api.http.get(f"/v1/agents/{agent.id}/recording", params={**span, "format": "cast2"}, headers=viewer)
    _, rest = events(answer.text)
    assert rest == [
        [0, "o", "8888"],
        [1, "o", "9999"],
        [22, "o", "\x1bc"],
        [22, "r", "60x20"],
        [22, "o", "late"],
    ]
    nothing = {"since": second(-50), "until": second(-40), "format": "cast2"}
    answer = await api.http.get(f"/v1/agents/{agent.id}/recording", params=nothing, headers=viewer)
    assert events(answer.text)[1] == []


async def test_a_long_export_keeps_memory_flat_and_holds_no_connection(api, agent):
    """A long export keeps a few megabytes in memory, and a client that reads slowly holds no database connection."""
    stream_id = await add_stream(api, agent.id)
    line = os.urandom(60).hex().encode() + b"\r\n"
    for index in range(4):
        await add_output(api, stream_id, *(line * 820 for _ in range(30)), after=index * 100)
    async with create_pool(api.database_url, role="onsembl_api", max_size=1, patience=10) as pool:
        size, held = 0, 0
        tracemalloc.start()
        async for block in record(pool, [Part(stream_id, 0, LONG, 80, 24)], "text", ""):
            size += len(block)
            held = max(held, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert size > LONG / 2
        assert held < LONG / 2
        reading = recordings.pieces(pool, stream_id, 0, LONG)
        await anext(reading)
        async with pool.connection():
            pass
        await reading.aclose()
