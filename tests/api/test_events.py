"""The event feed over REST, as server-sent events and on the command line."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from subprocess import PIPE
from uuid import uuid4

import httpx
import msgspec
import pytest
from support.agents import Operator, until
from support.api_calls import call_api
from support.asking_agents import running as asking
from support.command_line import CommandLine
from support.server import PATIENCE, Api, running

from onsembl.api import event_feed
from onsembl.api.routes.events_models import Events
from onsembl.cli.client.event_stream import EventParser
from onsembl.protocol.states import Role
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
async def viewer(api: Api) -> Operator:
    return Operator(api, await api.operator(Role.VIEWER))


async def halts(api: Api, *names: str) -> None:
    """Have halts begin and end, which are two events each."""
    async with await connect(api.database_url, role="onsembl_api") as conn:
        for name in names:
            await conn.execute("insert into halts (seconds, requested_by_name) values (1, %s)", [name])
            await conn.execute(
                "update halts set lifted_at = now(), lifted_by_name = %s where lifted_at is null", [name]
            )


class Stream:
    """A client of the stream: `next` is the next event, `ended` reads to the end of the answer."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.heartbeats = 0

    async def next(self) -> tuple[str, dict]:
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE):
            async for line in self._lines:
                lines.append(line)
                if line == "":
                    self.heartbeats += lines[0].startswith(":")
                    for kind, data in EventParser().events(lines):
                        return kind, json.loads(data)
                    lines.clear()
        raise EOFError

    async def closed(self) -> dict:
        """The reason of the end, after which nothing comes."""
        kind, data = await self.next()
        while kind != "closed":
            kind, data = await self.next()
        with pytest.raises(EOFError):
            await self.next()
        return data


@asynccontextmanager
async def following(operator: Operator, query: str = "", **headers: str) -> AsyncIterator[Stream]:
    sent = {**operator.headers, **STREAM, **headers}
    async with operator.api.http.stream("GET", f"/v1/events{query}", headers=sent) as response:
        if response.status_code != 200:
            await response.aread()
        assert response.status_code == 200, response.text
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield Stream(response)


async def test_events_are_read_in_pages(api, viewer):
    """A viewer reads the events in pages, continues after a cursor, and is told what can be done about each."""
    operator = Operator(api, await api.operator(Role.OPERATOR))
    async with asking(api, operator) as agent:
        asked = await agent.ask()

        async def seen():
            page = await call_api(viewer, "GET", "/v1/events?kind=attention.asked")
            return page["events"]

        [event] = await until(seen, "the request is an event")
        assert (event["agent_name"], event["detail"]["title"]) == ("one", "npm test")
        assert event["detail"]["digest"] == asked["digest"]
        answer = event["actions"][0]
        assert (answer["method"], answer["body"], answer["role"]) == ("POST", "AnswerBody", "operator")
        body = {"digest": event["detail"]["digest"], "decision": {"decision": "allow"}}
        await call_api(viewer, "POST", answer["path"], body, 403)
        await call_api(operator, "POST", answer["path"], body)
        await agent.end(turn={"denied": 1, "denials": [{"tool": "Bash", "title": "make"}]})
    everything = await call_api(viewer, "GET", "/v1/events")
    msgspec.convert(everything, Events)
    kinds = [event["kind"] for event in everything["events"]]
    order = ["attention.asked", "attention.answered", "command.ended"]
    assert [kind for kind in kinds if not kind.startswith("agent.")] == order
    [ended] = [one["detail"] for one in everything["events"] if one["kind"] == "command.ended"]
    assert (ended["state"], ended["denied"]) == ("succeeded", 1)
    statuses = [one["detail"]["name"] for one in everything["events"] if one["kind"] == "agent.status"]
    assert statuses[-1] in ("idle", "offline") and "waiting" in statuses
    paged: list[dict] = []
    after, more = 0, True
    while more:
        page = await call_api(viewer, "GET", f"/v1/events?limit=2&after={after}")
        paged, after, more = paged + page["events"], page["next_after"], page["more"]
    assert [event["position"] for event in paged[: len(kinds)]] == [one["position"] for one in everything["events"]]
    latest = await call_api(viewer, "GET", "/v1/events?after=latest")
    assert (latest["events"], latest["next_after"]) == ([], after)
    nobodys = await call_api(viewer, "GET", f"/v1/events?agent_id={uuid4()}&after=0")
    assert (nobodys["events"], nobodys["next_after"]) == ([], after)
    for query in ("after=-1", "after=x", "kind=x", "limit=0", "limit=201", "agent_id=1", "from=1"):
        await call_api(viewer, "GET", f"/v1/events?{query}", status=400)
    assert (await api.http.get("/v1/events")).status_code == 401


async def test_an_expired_cursor_says_how_to_begin_again(api, viewer):
    """A cursor whose next events are deleted, or of another feed, is a problem with the cursors that count."""
    await halts(api, "one", "two")
    async with await connect(api.database_url, role="onsembl_api") as conn:
        await call_api(viewer, "GET", "/v1/events")
        await conn.execute("delete from events where position <= 2")
        await conn.execute("update event_feed set deleted = 2")
    for headers in ({}, STREAM):
        for after in (0, 1, 5):
            problem = await call_api(viewer, "GET", f"/v1/events?after={after}", status=410, **headers)
            assert problem["type"] == "urn:onsembl:problem:events-expired"
            assert (problem["oldest"], problem["latest"]) == (2, 4)
            assert "Begin again" in problem["detail"]
    assert len((await call_api(viewer, "GET", f"/v1/events?after={problem['oldest']}"))["events"]) == 2
    assert len((await call_api(viewer, "GET", "/v1/events"))["events"]) == 2


async def test_events_are_followed_as_they_happen(api, viewer):
    """The stream begins after the cursor, goes on as events happen, and continues after the last id that was read."""
    await halts(api, "one")
    async with following(viewer) as stream:
        first = await stream.next()
        assert (first[0], first[1]["detail"]["by_name"]) == ("halt.begun", "one")
        assert (await stream.next())[0] == "halt.lifted"
        assert stream.heartbeats == 1  # the first one has the cursor
        await halts(api, "two")
        second = await stream.next()
        assert second[1]["detail"]["by_name"] == "two"
    async with following(viewer, "?after=latest", **{"Last-Event-ID": str(second[1]["position"] - 1)}) as stream:
        assert await stream.next() == second
    async with following(viewer, "?after=latest&kind=halt.lifted") as stream:
        await halts(api, "three")
        kind, event = await stream.next()
        assert (kind, event["position"]) == ("halt.lifted", second[1]["position"] + 3)
    await call_api(viewer, "GET", "/v1/events", status=400, **STREAM, **{"Last-Event-ID": "x"})
    await until(lambda: _is_empty(api), "the followers have left")


async def _is_empty(api: Api) -> bool:
    return not api.services.event_feed.followers


async def test_a_stream_ends_with_its_session(api, viewer):
    """The stream says why it ends: the session has ended, the operator is disabled, or the token has expired."""
    admin = Operator(api, await api.operator(Role.ADMIN))
    async with following(viewer) as stream:
        response = await api.http.post(
            "/auth/v1/logout?scope=local", headers={**viewer.headers, "apikey": await api.key()}
        )
        assert response.is_success
        closed = await stream.closed()
        assert (closed["code"], closed["reason"]) == (4401, "The session has ended.")
    other = Operator(api, await api.operator(Role.OPERATOR))
    async with following(other) as stream:
        [id] = [follower.operator_id for follower in api.services.event_feed.followers]
        await call_api(admin, "POST", f"/v1/operators/{id}/disable")
        assert (await stream.closed())["code"] == 4403
    async with following(admin) as stream:
        [follower] = api.services.event_feed.followers
        follower._operator = replace(follower._operator, expires_at=time.time() - 1)
        await halts(api, "one")
        assert (await stream.closed())["code"] == 4461


async def test_streams_are_bounded(api, viewer, monkeypatch):
    """An operator follows a bounded number of streams, and so do all together; a stream that has ended leaves room."""
    other = Operator(api, await api.operator(Role.OPERATOR))
    monkeypatch.setattr(event_feed, "MAX_FOLLOWERS_OF_OPERATOR", 1)
    monkeypatch.setattr(event_feed, "MAX_FOLLOWERS", 2)
    async with following(viewer):
        await call_api(viewer, "GET", "/v1/events", status=429, **STREAM)
        async with following(other):
            admin = Operator(api, await api.operator(Role.ADMIN))
            await call_api(admin, "GET", "/v1/events", status=503, **STREAM)
    await until(lambda: _is_empty(api), "the followers have left")
    async with following(viewer):
        pass


async def test_a_stream_ends_when_the_server_stops(settings):
    """A server that stops ends its streams at once, and tells the client to follow again."""
    async with running(settings) as api:
        viewer = Operator(api, await api.operator(Role.VIEWER))
        request = api.http.build_request("GET", "/v1/events", headers={**viewer.headers, **STREAM})
        response = await api.http.send(request, stream=True)
        stream = Stream(response)
        closing = asyncio.create_task(stream.closed())
        await until(lambda: _follows(api), "the stream has begun")
    closed = await closing
    assert (closed["code"], closed["permanent"]) == (1001, False)


async def _follows(api: Api) -> bool:
    return bool(api.services.event_feed.followers)


async def test_the_command_line_prints_and_follows_events(api, viewer, tmp_path):
    """An operator reads what has happened, and follows what happens, in lines of text or of JSON."""
    line = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path)
    await halts(api, "one")
    printed, _ = await line.run("events")
    assert [text.split()[3:] for text in printed.splitlines()] == [
        ["halt.begun", "by", "one"],
        ["halt.lifted", "by", "one"],
    ]
    printed, _ = await line.run("events", "--json", "--kind", "halt.lifted")
    [event] = map(json.loads, printed.splitlines())
    assert event["position"] == 2
    _, error = await line.run("events", "--after", "9", code=1)
    assert "Begin again" in error
    process = await line.start("events", "--follow", "--json", "--limit", "2", stdout=PIPE)
    await until(lambda: _follows(api), "it follows")
    await halts(api, "two")
    printed = await process.communicate()
    assert [json.loads(text)["detail"].get("by_name") for text in printed.splitlines()] == ["two", "two"]
