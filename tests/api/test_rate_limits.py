"""Rate limits per agent and address, and the client's address behind a reverse proxy."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.agents import until
from support.frames import HELLO_TEXT, attach, close_code
from support.server import running
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import InvalidStatus

from onsembl.api.auth.rate_limits import Allowance, RateLimits
from onsembl.protocol.close_codes import CloseCode
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker

BEARER_OF_NOTHING = {"Authorization": "Bearer onr_nothing"}


def limited(settings, **allowances):
    return running(replace(settings, limits=RateLimits(**allowances)))


async def refresh(socket, agent) -> None:
    """Greet as the agent, and ask for new tokens; the answer stays to be read."""
    await socket.send(HELLO_TEXT)
    await socket.recv()
    await socket.send(json.dumps({"type": "refresh", "refresh_token": agent.refresh_token}))


async def test_an_agent_that_comes_too_often_is_told_when_to_come_back(settings):
    """An agent that connects too often gets 429 with Retry-After before the upgrade; another agent may connect."""
    async with limited(settings, agent_connects=Allowance(2, 1000.0)) as api:
        one, two = await api.enrol("one"), await api.enrol("two")
        for _ in range(2):
            async with api.agent_socket(one) as socket:
                await socket.send(HELLO_TEXT)
                await socket.recv()
        with pytest.raises(InvalidStatus) as refused:
            await api.agent_socket(one)
        assert refused.value.response.status_code == 429
        assert int(refused.value.response.headers["Retry-After"]) > 900
        async with api.agent_socket(two) as socket:
            await socket.send(HELLO_TEXT)
            assert json.loads(await socket.recv())["type"] == "welcome"


async def test_an_address_may_open_so_many_sockets(settings):
    """The rate at which an address opens sockets is limited, and viewers' sockets count too."""
    async with limited(settings, address_connects=Allowance(1, 1000.0)) as api:
        agent, operator = await api.enrol(), await api.operator()
        async with api.terminal_socket(agent.id) as viewer:
            await attach(viewer, operator.access_token)
        for door in (api.terminal_socket(agent.id), api.agent_socket(agent)):
            with pytest.raises(InvalidStatus) as refused:
                await door
            assert refused.value.response.status_code == 429


async def test_realtime_is_for_operators(settings):
    """An address may have only few sockets that have not presented an operator's token."""
    async with limited(settings, unauthenticated_realtime_sockets=1) as api:
        operator = await api.operator()
        address = f"{api.url.replace('http', 'ws')}/realtime/v1/websocket?vsn=2.0.0&apikey="
        async with connect_socket(address + await api.key()):
            with pytest.raises(InvalidStatus) as refused:
                await connect_socket(address + await api.key())
            assert refused.value.response.status_code == 429
            async with connect_socket(address + operator.access_token):
                pass


async def test_guessing_is_answered_before_anything_is_looked_up(settings):
    """After too many unknown tokens an address waits at every route for tokens; its open connections go on."""
    async with limited(settings, address_failures=Allowance(3, 1000.0)) as api:
        agent = await api.enrol()
        async with api.agent_socket(agent) as socket:
            await socket.send(HELLO_TEXT)
            await socket.recv()
            statuses = [
                (await api.http.post("/v1/agents/token", headers=BEARER_OF_NOTHING)).status_code for _ in range(5)
            ]
            assert statuses == [401, 401, 401, 429, 429]
            enrolment = await api.http.post(
                "/v1/agents/enrol", json={"name": "x", "kind": "shell"}, headers=BEARER_OF_NOTHING
            )
            assert (enrolment.status_code, enrolment.headers["Retry-After"]) == (429, "1000")
            await socket.send(json.dumps({"type": "refresh", "refresh_token": agent.refresh_token}))
            assert json.loads(await socket.recv())["type"] == "tokens"


async def test_a_good_token_passes_where_bad_ones_are_refused(settings):
    """Signed tokens are verified in memory, so invalid tokens of an address do not block its agents and operators."""
    async with limited(settings, address_invalid_tokens=Allowance(1, 1000.0)) as api:
        agent, operator = await api.enrol(), await api.operator()
        for _ in range(2):
            with pytest.raises(InvalidStatus):
                await api.agent_socket(replace(agent, access_token="bad"))
        assert (await api.http.get("/v1/me", headers=BEARER_OF_NOTHING)).status_code == 429
        assert (await api.http.get("/v1/me", headers=operator.headers)).status_code == 200
        async with api.agent_socket(agent) as socket, api.terminal_socket(agent.id) as viewer:
            await socket.send(HELLO_TEXT)
            assert json.loads(await socket.recv())["type"] == "welcome"
            await attach(viewer, operator.access_token)
        async with api.terminal_socket(agent.id) as viewer:
            await viewer.send(json.dumps({"type": "attach", "access_token": "bad"}))
            assert await close_code(viewer) == CloseCode.RATE_LIMITED


async def test_refreshes_of_one_agent_are_limited(settings):
    """An agent that refreshes too often is rejected for a while; its last tokens stay valid."""
    async with limited(settings, agent_refreshes=Allowance(2, 1000.0)) as api:
        agent = await api.enrol()
        async with api.agent_socket(agent) as socket:
            await socket.send(HELLO_TEXT)
            await socket.recv()
            token = agent.refresh_token
            for _ in range(2):
                await socket.send(json.dumps({"type": "refresh", "refresh_token": token}))
                token = json.loads(await socket.recv())["refresh_token"]
            await socket.send(json.dumps({"type": "refresh", "refresh_token": token}))
            assert await close_code(socket) == CloseCode.RATE_LIMITED
        answer = await api.http.post("/v1/agents/token", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 429, "by the other way in, too"


async def test_refreshes_over_connections_count_for_their_address(settings):
    """Refreshes over connections count like refreshes over HTTP, and so does an unknown token."""
    async with limited(settings, address_token_requests=Allowance(3, 1000.0)) as api:  # enrolling takes two
        one, two = await api.enrol("one"), await api.enrol("two")
        async with api.agent_socket(one) as first, api.agent_socket(two) as second:
            await refresh(first, one)
            assert json.loads(await first.recv())["type"] == "tokens"
            await refresh(second, two)
            assert await close_code(second) == CloseCode.RATE_LIMITED
    async with limited(settings, address_failures=Allowance(1, 1000.0)) as api:
        async with api.agent_socket(await api.enrol("three")) as socket:
            await socket.send(HELLO_TEXT)
            await socket.recv()
            await socket.send(json.dumps({"type": "refresh", "refresh_token": "onr_nothing"}))
            assert await close_code(socket) == CloseCode.REFRESH_REJECTED
        assert (await api.http.post("/v1/agents/token", headers=BEARER_OF_NOTHING)).status_code == 429


@pytest.mark.parametrize("side", ["agent", "viewer"])
async def test_a_flood_of_control_messages_ends_the_socket(settings, side):
    """The socket is closed when the average rate of control messages is too high."""
    async with limited(settings, messages_per_second=1.0) as api:
        agent, operator = await api.enrol(), await api.operator()
        async with api.agent_socket(agent) as socket, api.terminal_socket(agent.id) as viewer:
            await socket.send(HELLO_TEXT)
            await socket.recv()
            await attach(viewer, operator.access_token)
            flooding = socket if side == "agent" else viewer
            for _ in range(20):
                await flooding.send('{"type":"ping"}')
            assert await close_code(flooding) == CloseCode.RATE_LIMITED


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        ({"Fly-Client-IP": "203.0.113.9"}, "203.0.113.9"),
        ({"Fly-Client-IP": "198.51.100.1, 203.0.113.9"}, "203.0.113.9"),
        ({"Fly-Client-IP": "2001:db8::1"}, "2001:db8::1"),
        ({"Fly-Client-IP": "' or 1=1"}, "127.0.0.1"),
        ({"X-Forwarded-For": "203.0.113.9"}, "127.0.0.1"),
        ({}, "127.0.0.1"),
    ],
)
async def test_the_proxys_header_is_believed_when_it_is_named(settings, sent, address):
    """The audit log has the client's address; a header that the settings do not name changes nothing."""
    async with running(replace(settings, client_address_header="Fly-Client-IP")) as api:
        token = await api.enrolment_token()
        answer = await api.http.post(
            "/v1/agents/enrol",
            json={"name": "x", "kind": "shell"},
            headers={"Authorization": f"Bearer {token}", **sent},
        )
        assert answer.status_code == 201
        assert await address_of(api, "agent.enrolled") == address


async def test_no_header_is_believed_by_default(api):
    """Without a setting every header is ignored, because any client can send it."""
    token = await api.enrolment_token()
    await api.http.post(
        "/v1/agents/enrol",
        json={"name": "x", "kind": "shell"},
        headers={"Authorization": f"Bearer {token}", "Fly-Client-IP": "203.0.113.9", "X-Forwarded-For": "203.0.113.9"},
    )
    assert await address_of(api, "agent.enrolled") == "127.0.0.1"


async def address_of(api, action: str) -> str:
    async def found() -> str | None:
        async with await connect(api.database_url) as conn:
            cursor = await conn.execute("select address from audit where action = %s", [action])
            row = await cursor.fetchone()
        return row["address"] if row else None

    return str(await until(found, action))
