"""Search over the API, from an agent's output to the offset of the hit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from support.agents import Operator, agent_running, until
from support.recordings import NOON, add_command, add_output, add_steps, add_stream
from support.server import running

from onsembl.protocol.states import Role
from onsembl.sql import search
from onsembl.sql.database import connect
from onsembl.tasks.search_index import index_round
from onsembl.tasks.worker import WorkerSettings

pytestmark = pytest.mark.no_worker


@pytest.fixture
async def viewer(api) -> dict:
    return (await api.operator(Role.VIEWER)).headers


async def index(api) -> None:
    while await index_round(api.services.pool, all_streams=True):
        pass


async def find(api, headers, q: str, **query) -> list[dict]:
    answer = await api.http.get("/v1/search", params={"q": q, **query}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["hits"]


def shown(hit: dict) -> str:
    return "".join(f"[{part['text']}]" if part["match"] else part["text"] for part in hit["excerpt"])


async def test_a_hit_says_where_it_is(api, viewer):
    """A search finds parts of words and paths in any case, all words in one line and quoted phrases; a hit has offset,
    time and marked text."""
    agent = await api.enrol()
    stream = await add_stream(api, agent.id)
    await add_output(
        api,
        stream,
        b"$ pytest\r\n\x1b[31mE   Conn",
        b"ectionRefusedError\x1b[0m: [Errno 111] Connection refused\r\n",
        b"see /var/log/app/server_1.log (100%)\r\nno such connection, refused\r\n",
    )
    await index(api)
    (hit,) = await find(api, viewer, "refusederror")
    assert shown(hit) == "E   Connection[RefusedError]: [Errno 111] Connection refused"
    assert (hit["agent_id"], hit["stream_id"], hit["offset"]) == (agent.id, str(stream), 10)
    assert hit["at"].startswith(f"{NOON:%Y-%m-%d}T12:00:01")
    assert [shown(hit) for hit in await find(api, viewer, '"connection refused"')] == [
        "E   ConnectionRefusedError: [Errno 111] [Connection refused]"
    ]
    assert len(await find(api, viewer, "refused connection")) == 2
    for path in ("/var/log/app/server_1.log", "r_1.l", "(100%)", "100%"):
        assert len(await find(api, viewer, path)) == 1, path
    for nothing in ("server%1", "serverX1", "pytest refused", "\\"):
        assert await find(api, viewer, nothing) == [], nothing


async def test_an_agent_and_a_time_narrow_it(api, viewer):
    """An agent and a time narrow the search, and pages follow each other, newest first, with each line once."""
    one, two = await api.enrol("one"), await api.enrol("two")
    for agent in (one, two):
        stream = await add_stream(api, agent.id)
        await add_output(api, stream, *(f"needle {n} of {agent.name}\n".encode() for n in range(30)), step=10)
    await index(api)
    assert len(await find(api, viewer, "needle", limit=200)) == 60
    assert len(await find(api, viewer, "needle", agent_id=two.id)) == 30
    hits = await find(api, viewer, "needle", since=(NOON - timedelta(days=1)).isoformat(), until=NOON.isoformat())
    assert hits == []
    for after, before, numbers in ((150, 999, range(15, 30)), (-1, 40, range(4)), (55, 75, (6, 7)), (291, 999, ())):
        query = {
            "since": (NOON + timedelta(seconds=after)).isoformat(),
            "until": (NOON + timedelta(seconds=before)).isoformat(),
        }
        hits = await find(api, viewer, "needle", agent_id=one.id, **query)
        assert [shown(hit) for hit in hits] == [f"[needle] {n} of one" for n in reversed(numbers)], query
    seen, cursor = [], {}
    while True:
        answer = await api.http.get(
            "/v1/search", params={"q": "needle", "agent_id": one.id, "limit": 7, **cursor}, headers=viewer
        )
        seen += [shown(hit) for hit in answer.json()["hits"]]
        if answer.json()["next_cursor"] is None:
            break
        cursor = {"cursor": answer.json()["next_cursor"]}
    assert seen == [f"[needle] {n} of one" for n in reversed(range(30))]


async def test_commands_are_found_by_their_text(api, viewer):
    """Commands are found by their text, with the offset where their output begins."""
    agent = await api.enrol()
    stream = await add_stream(api, agent.id)
    for number in range(5):
        await add_command(api, agent.id, stream, f"git commit -m 'change {number}'", number, number + 1)
    first = await api.http.get("/v1/search", params={"q": "COMMIT", "kind": "commands", "limit": 3}, headers=viewer)
    assert [hit["offset"] for hit in first.json()["hits"]] == [4, 3, 2]
    (hit, last) = await find(api, viewer, "commit", kind="commands", cursor=first.json()["next_cursor"])
    assert shown(hit) == "git [commit] -m 'change 1'" and last["state"] == "succeeded"


async def test_steps_and_output_are_searched_together(api, viewer):
    """A search finds what a tool returned together with what the terminal showed, newest first, and page by page each
    hit once; a step says its command, its number and its tool."""
    agent = await api.enrol()
    stream = await add_stream(api, agent.id)
    await add_output(api, stream, *(f"needle line {n}\n".encode() for n in range(5)), step=2)  # noon, +2 s, +4 s, …
    command = await add_command(api, agent.id, stream, "find it", 0, 9)
    await add_steps(api, agent.id, command, *(f"{'x' * 5000}\na needle in result {n}" for n in range(5)), after=1)
    running = await add_command(api, agent.id, stream, "still", 9, None)
    await add_steps(api, agent.id, running, "a needle that is not found yet", ended=False)
    await index(api)
    steps = await find(api, viewer, "MAKE needle", kind="steps")
    assert [(hit["command_id"], hit["step"], hit["step_name"], hit["offset"]) for hit in steps] == [
        (command, number, "Bash", number) for number in (5, 4, 3, 2, 1)
    ]
    assert shown(steps[0]).endswith("\na [needle] in result 4") and steps[0]["stream_id"] == str(stream)
    both = await find(api, viewer, "needle")
    assert [(hit["at"], hit["step"]) for hit in both] == sorted(
        ((hit["at"], hit["step"]) for hit in both), key=lambda hit: hit[0], reverse=True
    )
    assert sorted(hit["step"] or 0 for hit in both) == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]
    assert [hit["step"] for hit in await find(api, viewer, "needle", kind="output")] == [None] * 5
    seen, cursor = [], {}
    while True:
        answer = (await api.http.get("/v1/search", params={"q": "needle", "limit": 3, **cursor}, headers=viewer)).json()
        seen += answer["hits"]
        if answer["next_cursor"] is None:
            break
        cursor = {"cursor": answer["next_cursor"]}
    assert seen == both
    within = {"since": (NOON + timedelta(seconds=3)).isoformat(), "until": (NOON + timedelta(seconds=5)).isoformat()}
    assert {hit["step"] for hit in await find(api, viewer, "needle", **within)} == {3, 4, None}


async def test_a_question_that_makes_no_sense_is_refused(api, viewer):
    """An invalid search answers 400 with the reason."""
    for query in (
        {},
        {"q": ""},
        {"q": "  "},
        {"q": "x" * 201},
        {"q": "a b c d e f g h i"},
        {"q": "a", "cursor": "x"},
        {"q": "a", "since": "today"},
        {"q": "a", "kind": "x"},
        {"q": "a\0b"},
    ):
        answer = await api.http.get("/v1/search", params=query, headers=viewer)
        assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json"), query
    assert (await api.http.get("/v1/search", params={"q": "a"})).status_code == 401


async def test_what_an_agent_says_is_found_while_it_runs(settings, tmp_path):
    """A real program's output is found soon, because a worker indexes it."""
    async with running(replace(settings, worker=WorkerSettings())) as api, agent_running(api, tmp_path) as agent:
        operator = Operator(api, await api.operator(Role.OPERATOR))
        command = await operator.send(agent.id, "echo 'the quick brown' fox")
        row = await operator.until_state(command, "succeeded")

        async def found():
            return await find(api, operator.headers, '"quick brown fox"')

        (hit,) = await until(found, "the output to be found")
        assert row["output_start"] <= hit["offset"] < row["output_end"]
        assert hit["stream_id"] == row["stream_id"]


async def test_trigrams_are_used_where_they_can_be(api):
    """The embedded Postgres uses its trigram index, so a search for a rare word does not read every line."""
    agent = await api.enrol()
    stream = await add_stream(api, agent.id)
    await add_output(api, stream, *(f"line {n} {n * 7919 % 10007:x}\n".encode() * 40 for n in range(500)))
    await index(api)
    async with await connect(api.database_url, autocommit=True) as conn:
        await conn.execute("analyze onsembl.search_text; set enable_seqscan = off; set enable_indexscan = off")
        for statement in (
            "select 1 from onsembl.search_text where text ilike '%needle%'",
            f"select 1 from onsembl.steps where ended_at is not null and {search.STEP_TEXT} ilike '%needle%'",
        ):
            cursor = await conn.execute(f"explain {statement}".encode())
            plan = "\n".join(row["QUERY PLAN"] for row in await cursor.fetchall())
            assert plan.count("Bitmap Index Scan") == plan.count("Bitmap Heap Scan") > 0, plan


async def test_the_index_goes_with_the_archive(api, viewer):
    """When retention drops a day of the archive, searches no longer find its text."""
    agent = await api.enrol()
    stream = await add_stream(api, agent.id)
    await add_output(api, stream, b"long ago\n", after=-90 * 86400)
    await add_output(api, stream, b"not long ago\n")
    await index(api)
    async with await connect(api.database_url, role="onsembl_api") as conn:
        await conn.execute("select onsembl.make_archive_partitions(3)")
        await search.keep_partitions(conn)
        await conn.commit()
        assert len(await find(api, viewer, '"long ago"')) == 2
        await conn.execute("select onsembl.drop_archive_partitions((now()::date - %s::date) + 1)", [NOON])
        await search.keep_partitions(conn)
        await conn.commit()
    assert [shown(hit) for hit in await find(api, viewer, '"long ago"')] == ["not [long ago]"]
