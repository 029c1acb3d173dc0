"""Revocation during a connection: of agents, operators and tokens of a leaked key, at every instance."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import jwt
import pytest
from support.agents import Operator, agent_running, until
from support.frames import HELLO_TEXT, attach, close_code, next_message
from support.server import Api, running
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from onsembl.api.auth.agent_keys import AgentKeys, kid_of, new_private_pem
from onsembl.api.http.problems import Problem
from onsembl.cli.server.keys import _rotate_agents, _rotate_operators
from onsembl.fleet import instance_messages
from onsembl.fleet.instance_messages import InstanceMessage
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role
from onsembl.realtime.auth.settings import AuthSettings
from onsembl.realtime.channels.server import SERVICE_RESTART
from onsembl.sql import agents, signing_keys
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker


@asynccontextmanager
async def two_instances(settings) -> AsyncGenerator[tuple[Api, Api]]:
    """Two instances with one database."""
    async with running(settings) as one, running(replace(settings, worker=None)) as other:
        # Access tokens name the instance that issued them; both instances verify them by the same keys.
        other.services.operator_tokens._issuer = f"{one.url}/auth/v1"
        yield one, other


@pytest.fixture
async def instances(settings):
    async with two_instances(settings) as both:
        yield both


async def change(api, headers: dict, kind: str, id: str, verb: str) -> dict:
    response = await api.http.post(f"/v1/{kind}/{id}/{verb}", json={}, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


async def connected(api, agent):
    """A connection of the agent, after its welcome."""
    socket = await api.agent_socket(agent)
    await socket.send(HELLO_TEXT)
    assert json.loads(await socket.recv())["type"] == "welcome"
    return socket


async def test_a_disabled_agent_is_closed_wherever_it_is(instances):
    """Disabling an agent at one instance closes its connection at another for good and rejects its tokens; enabling it
    permits both again."""
    here, there = instances
    admin = (await here.operator()).headers
    agent = await here.enrol()
    socket = await connected(there, agent)
    assert (await change(here, admin, "agents", agent.id, "disable"))["disabled_at"] is not None
    assert await close_code(socket) == CloseCode.REVOKED
    async with here.agent_socket(agent) as again:
        await again.send(HELLO_TEXT)
        assert await close_code(again) == CloseCode.REVOKED
    refresh = {"Authorization": f"Bearer {agent.refresh_token}"}
    assert (await here.http.post("/v1/agents/token", headers=refresh)).status_code == 401
    await change(here, admin, "agents", agent.id, "enable")
    await (await connected(here, agent)).close()


@pytest.mark.parametrize("op", ["disabled", "credentials_ended", "reused"])
async def test_an_agent_that_was_let_in_again_comes_back(api, op):
    """The message that it was disabled, or that its credentials were revoked, comes when that is over: its connection
    is closed, but not for good."""
    agent = await api.enrol()
    socket = await connected(api, agent)
    async with await connect(api.database_url, role="onsembl_api") as conn:
        message = InstanceMessage(op=op, agent_id=UUID(agent.id))
        await instance_messages.send(conn, api.services.presence.instance_id, message)
    assert await close_code(socket) == CloseCode.GOING_AWAY
    await (await connected(api, agent)).close()


async def test_a_disabled_agents_command_does_not_run_for_ever(settings, tmp_path):
    """A disabled agent ends its processes and itself, and its running command is lost."""
    async with running(settings) as api:
        operator = Operator(api, await api.operator())
        async with agent_running(api, tmp_path) as agent:
            command = await operator.send(agent.id, "sleep 1000")
            await operator.until_state(command, "running")
            await change(api, operator.headers, "agents", agent.id, "disable")
            assert (await operator.until_state(command, "lost"))["state"] == "lost"
            assert await agent.process.wait() != 0


async def test_a_disabled_operator_is_closed_everywhere_and_sees_nothing(instances):
    """A disabled operator's valid token is rejected at both instances, by terminals, the live state and the REST
    API; an enabled operator signs in again."""
    here, there = instances
    admin, other = (await here.operator()).headers, await here.operator(Role.OPERATOR)
    agent = await here.enrol()
    accounts = (await here.http.get("/v1/operators", headers=admin)).json()["operators"]
    id = next(account["id"] for account in accounts if account["email"] == other.email)
    async with here.terminal_socket(agent.id) as one, there.terminal_socket(agent.id) as two:
        await attach(one, other.access_token)
        await attach(two, other.access_token)
        assert (await change(here, admin, "operators", id, "disable"))["disabled"] is True
        assert await close_code(one) == CloseCode.FORBIDDEN
        assert await close_code(two) == CloseCode.FORBIDDEN
    for api in instances:
        answer = await api.http.get("/v1/me", headers=other.headers)
        assert (answer.status_code, answer.json()["detail"]) == (403, "This operator is disabled.")
        async with api.terminal_socket(agent.id) as socket:
            await socket.send(json.dumps({"type": "attach", "access_token": other.access_token}))
            assert await close_code(socket) == CloseCode.FORBIDDEN
    assert await rows_seen_by(here, other.access_token) == 0
    assert (await change(here, admin, "operators", id, "enable"))["disabled"] is False
    again = await here.sign_in(other.email)
    assert await rows_seen_by(here, other.access_token) == 0
    assert await rows_seen_by(here, again.access_token) == 1

    async def welcome() -> bool:
        return all([(await api.http.get("/v1/me", headers=again.headers)).status_code == 200 for api in instances])

    await until(welcome, "both instances to have heard")


async def rows_seen_by(api, access_token: str) -> int:
    """The number of agents that row-level security shows to the holder of this token."""
    claims = json.dumps(jwt.decode(access_token, options={"verify_signature": False}))
    async with await connect(api.database_url) as conn:
        await conn.execute("select set_config('request.jwt.claims', %s, true)", [claims])
        await conn.execute("set local role authenticated")
        cursor = await conn.execute("select count(id) as count from onsembl.agents")
        row = await cursor.fetchone()
    return row["count"] if row else -1


async def test_nobody_shuts_themselves_out(api):
    """Admins cannot disable their own account, so one admin is always left, and only admins disable accounts."""
    admin = await api.operator()
    me = (await api.http.get("/v1/me", headers=admin.headers)).json()["id"]
    assert (await api.http.post(f"/v1/operators/{me}/disable", headers=admin.headers)).status_code == 409
    operator = await api.operator(Role.OPERATOR)
    for path in ("/v1/operators", f"/v1/operators/{me}/disable", f"/v1/agents/{me}/disable"):
        method = "GET" if path == "/v1/operators" else "POST"
        assert (await api.http.request(method, path, headers=operator.headers)).status_code == 403
    assert (await api.http.post(f"/v1/agents/{me}/disable", headers=admin.headers)).status_code == 404


async def test_keys_change_while_agents_stay_connected(instances):
    """After a rotation of the keys, old tokens stay valid, and every instance signs new tokens by the new key."""
    here, there = instances
    agent = await here.enrol()
    socket = await connected(there, agent)
    kid = await _rotate_agents(here.database_url, revoke=False)

    async def signs() -> bool:
        return all(api.services.agent_keys._signing[0] == kid for api in instances)

    await until(signs, "both instances to sign with the new key")
    await socket.send(json.dumps({"type": "refresh", "refresh_token": agent.refresh_token}))
    token = json.loads(await socket.recv())["access_token"]
    await (await connected(there, agent)).close()  # the old key signed it
    await (await connected(here, replace(agent, access_token=token))).close()


async def test_a_replaced_key_verifies_no_longer_than_its_tokens_live(api):
    """A replaced key is rejected after its tokens' lifetime, by the clock and without a read of the database."""
    agent = await api.enrol()
    keys = api.services.agent_keys
    await _rotate_agents(api.database_url, revoke=False)
    async with await connect(api.database_url) as conn:
        await conn.execute("update signing_keys set retired_at = now() + interval '1 s' where retired_at is not null")
    await keys.load()
    read = dict(keys._verifying)
    assert keys.verify(agent.access_token).id == UUID(agent.id)

    async def refused() -> bool:
        try:
            await (await connected(api, agent)).close()
        except InvalidStatus as refusal:
            return refusal.response.status_code == 401
        except ConnectionClosed as closed:  # the connection opened just before the key's end
            assert closed.rcvd is not None and closed.rcvd.code == CloseCode.TOKEN_EXPIRED
        return False

    await until(refused, "the key's end")
    assert keys._verifying == read, "nothing was read again"


async def test_tokens_that_live_longer_are_taken_by_instances_that_make_shorter_ones(settings, instances):
    """An instance accepts tokens that live longer than its own if another instance issues such tokens."""
    here, there = instances
    async with running(replace(settings, worker=None, agent_access_token=7200.0)) as longer:
        agent = await longer.enrol()
        for api in (here, there):
            await until(lambda api=api: taken(api, agent.access_token), "the longer life")


async def taken(api, token: str) -> bool:
    try:
        return bool(api.services.agent_keys.verify(token))
    except Problem:
        return False


async def test_an_instance_that_has_not_heard_of_a_key_reads_it(api):
    """A token of a key that an instance does not know makes it read the keys."""
    agent = await api.enrol()
    keys = api.services.agent_keys
    held = dict(keys._verifying)
    keys._verifying, keys._read_at = {}, float("-inf")
    await (await connected(api, agent)).close()
    assert keys._verifying.keys() == held.keys()


async def test_a_leaked_key_is_revoked_at_once(instances):
    """A revoked key's tokens are rejected and their connections closed; agents return by their refresh tokens."""
    here, there = instances
    agent = await here.enrol()
    socket = await connected(there, agent)
    kid = await _rotate_agents(here.database_url, revoke=True)
    assert await close_code(socket) == CloseCode.TOKEN_EXPIRED

    async def know() -> bool:
        return all(api.services.agent_keys._verifying.keys() == {kid} for api in instances)

    await until(know, "both instances to have heard")
    for api in instances:
        with pytest.raises(InvalidStatus) as refused:
            await api.agent_socket(agent)
        assert refused.value.response.status_code == 401
    answer = await here.http.post("/v1/agents/token", headers={"Authorization": f"Bearer {agent.refresh_token}"})
    await (await connected(there, replace(agent, access_token=answer.json()["access_token"]))).close()


async def test_a_key_that_is_revoked_before_the_hello_opens_no_session(api):
    """An agent whose key is revoked between the upgrade and hello gets no session."""
    agent = await api.enrol()
    keys = api.services.agent_keys
    async with api.agent_socket(agent) as socket:
        await _rotate_agents(api.database_url, revoke=True)
        await until(lambda: forgotten(keys, agent.access_token), "the instance to have heard")
        await socket.send(HELLO_TEXT)
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()  # an accepted agent would receive a welcome
        assert closed.value.rcvd.code == CloseCode.TOKEN_EXPIRED


@pytest.mark.no_worker
async def test_an_operator_who_was_disabled_while_nobody_listened_is_refused(api):
    """An instance that missed the message that an operator is disabled refuses the operator's next request once it
    listens again, about a second after it lost the connection."""
    operator = await api.operator(Role.OPERATOR)

    async def refused() -> bool:
        return (await api.http.get("/v1/agents", headers=operator.headers)).status_code == 403

    assert not await refused()
    async with await connect(api.database_url, autocommit=True) as conn:  # sends no notification
        await conn.execute("update operators set disabled_at = now() where email = %s", [operator.email])
        assert not await refused()
        await conn.execute(
            """select pg_terminate_backend(pid, 5000) from pg_stat_activity
               where datname = current_database() and (query ilike 'listen %' or query = 'select 1')"""
        )
    await until(refused, "the operator is refused", seconds=30)


async def forgotten(keys: AgentKeys, token: str) -> bool:
    return not keys.verifies(kid_of(token))


@pytest.mark.parametrize(
    ("missed", "code"),
    [
        ("the key is revoked", CloseCode.TOKEN_EXPIRED),
        ("the credentials end", CloseCode.REVOKED),
        ("the agent is disabled", CloseCode.REVOKED),
    ],
)
async def test_what_was_said_while_nobody_listened_is_done_at_the_return(api, missed, code):
    """An instance that missed a revocation closes the agent's connection when it listens again, and no other
    connection."""
    gone, staying = await api.enrol("one"), await api.enrol("two")
    socket = await connected(api, gone)
    async with await connect(api.database_url, role="onsembl_api") as conn:  # sends no notification
        match missed:
            case "the key is revoked":
                await signing_keys.rotate(conn, "another", new_private_pem(), revoke=True)
            case "the credentials end":
                await agents.refuse_tokens_before(conn, AgentId(UUID(gone.id)), time.time())
            case _:
                await agents.disable(conn, AgentId(UUID(gone.id)))
    if code is CloseCode.REVOKED:
        other = await connected(api, staying)
    async with await connect(api.database_url) as conn:
        cursor = await conn.execute(
            """select pg_terminate_backend(pid, 5000) as ended from pg_stat_activity
               where datname = current_database() and (query ilike 'listen %' or query = 'select 1')"""
        )
        assert await cursor.fetchall(), "it has lost the connection that listens"
    assert await close_code(socket) == code
    if code is CloseCode.REVOKED:
        await other.send('{"type":"ping"}')
        await next_message(other, "pong")
        await other.close()


async def test_a_leaked_key_of_operators_is_revoked_at_once(settings):
    """A revoked key's operator tokens are rejected at every instance, their connections are closed, and operators can
    sign in again."""
    patient = replace(settings, auth=AuthSettings(key_reload_seconds=3600.0))  # notifications only
    async with two_instances(patient) as (here, there):
        agent, operator = await here.enrol(), await here.operator()
        live = f"{here.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={await here.key()}"
        async with (
            here.terminal_socket(agent.id) as one,
            there.terminal_socket(agent.id) as two,
            websocket(live) as realtime,
        ):
            await attach(one, operator.access_token)
            await attach(two, operator.access_token)
            join = {"topic": "realtime:x", "event": "phx_join", "ref": "1", "join_ref": "1"}
            await realtime.send(json.dumps({**join, "payload": {"access_token": operator.access_token}}))
            assert json.loads(await realtime.recv())["payload"]["status"] == "ok"
            await _rotate_operators(here.database_url, revoke=True)
            assert await close_code(one) == CloseCode.TOKEN_EXPIRED
            assert await close_code(two) == CloseCode.TOKEN_EXPIRED
            assert await close_code(realtime) == SERVICE_RESTART
        again = await here.operator()
        for api in (here, there):
            assert (await api.http.get("/v1/me", headers=operator.headers)).status_code == 401
            assert (await api.http.get("/v1/me", headers=again.headers)).status_code == 200


async def test_viewers_stay_when_the_key_of_operators_changes(settings):
    """After a rotation of the operators' key, old tokens stay valid until they expire."""
    async with running(settings) as api:
        agent, operator = await api.enrol(), await api.operator()
        async with await connect(api.database_url) as conn:
            await conn.execute("update auth.signing_keys set created_at = now() - interval '2 h'")
        async with api.terminal_socket(agent.id) as viewer:
            await attach(viewer, operator.access_token)
            kid = await _rotate_operators(api.database_url, revoke=False)
            await until(lambda: fetched(api, kid), "the new key to be published")
            await viewer.send('{"type":"ping"}')
            await next_message(viewer, "pong")
            assert (await api.http.get("/v1/me", headers=operator.headers)).status_code == 200


async def fetched(api, kid: str) -> bool:
    return kid in api.services.operator_tokens._keys


async def test_an_access_token_from_before_a_theft_was_found_is_refused(api):
    """Reuse of a refresh token revokes the agent's access tokens, although their signature and times are valid."""
    agent = await api.enrol()
    headers = {"Authorization": f"Bearer {agent.refresh_token}"}
    second = (await api.http.post("/v1/agents/token", headers=headers)).json()
    third = await api.http.post("/v1/agents/token", headers={"Authorization": f"Bearer {second['refresh_token']}"})
    assert (await api.http.post("/v1/agents/token", headers=headers)).status_code == 401
    async with api.agent_socket(replace(agent, access_token=third.json()["access_token"])) as socket:
        await socket.send(HELLO_TEXT)
        assert await close_code(socket) == CloseCode.REVOKED
