"""Agents' tokens rotate over the live connection; stolen tokens are rejected."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from dataclasses import replace

import pytest
from support.agents import FINAL, Operator, agent_running, read_until, until
from support.api_calls import audit_entries
from support.frames import HELLO_TEXT, attach, close_code, next_message
from support.server import running
from websockets.exceptions import InvalidStatus

from onsembl.api.auth.rate_limits import Allowance, RateLimits
from onsembl.api.terminals import agent_socket
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.messages import encode_output
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker


async def call_api(socket, token: str) -> dict:
    """Refresh over the connection; return the next tokens."""
    await socket.send(json.dumps({"type": "refresh", "refresh_token": token}))
    return await next_message(socket, "tokens")


async def by_http(api, token: str) -> int:
    return (await api.http.post("/v1/agents/token", headers={"Authorization": f"Bearer {token}"})).status_code


@pytest.mark.parametrize("rotations", [40, pytest.param(300, marks=pytest.mark.soak)])
async def test_tokens_rotate_and_not_a_byte_is_missing(settings, rotations):
    """Tokens rotate between frames of output, and the stream continues over the same connection."""
    async with running(replace(settings, limits=RateLimits(agent_refreshes=Allowance(rotations, 1.0)))) as api:
        await rotate_and_stream(api, rotations)


async def rotate_and_stream(api, rotations: int) -> None:
    agent, operator = await api.enrol(), await api.operator()
    async with api.agent_socket(agent) as socket, api.terminal_socket(agent.id) as viewer:
        await socket.send(HELLO_TEXT)
        await socket.recv()
        await attach(viewer, operator.access_token)
        token, sent = agent.refresh_token, b""
        for n in range(rotations):
            piece = b"%06d" % n
            await socket.send(encode_output(len(sent), piece))
            sent += piece
            token = (await call_api(socket, token))["refresh_token"]
        assert await read_until(viewer, sent[-6:]) == sent
        row = (await api.http.get(f"/v1/agents/{agent.id}", headers=operator.headers)).json()
        assert row["epoch"] == 1, "the same connection"


@pytest.mark.parametrize("rotations", [3, pytest.param(12, marks=pytest.mark.soak)])
async def test_an_agent_with_short_tokens_stays_connected_while_a_command_runs(settings, tmp_path, rotations):
    """An agent with tokens of 2 s keeps one connection and all output during a command; `loadtests/rotation_soak.py`
    tests 300 rotations."""
    async with running(replace(settings, agent_access_token=2.0)) as api:
        operator = Operator(api, await api.operator())
        async with agent_running(api, tmp_path) as agent, api.terminal_socket(agent.id) as viewer:
            await attach(viewer, operator.headers["Authorization"].removeprefix("Bearer "))
            count = "until test -e stop; do n=$((n+1)); echo line-$n; sleep 0.02; done; echo over-$n-lines"
            command = await operator.send(agent.id, f"n=0; {count}")
            seen = await read_until(viewer, b"line-1\r\n")
            before = await refreshes(api)

            async def rotated() -> bool:
                return await refreshes(api) >= before + rotations

            await until(rotated, "the rotations")
            (tmp_path / "stop").touch()
            seen += await read_until(viewer, b"-lines\r\n")
            assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
            row = (await api.http.get(f"/v1/agents/{agent.id}", headers=operator.headers)).json()
            assert row["epoch"] == 1
    printed = seen[seen.index(b"line-1\r\n") :]
    lines = int(printed.split(b"over-")[1].split(b"-")[0])
    expected = b"".join(b"line-%d\r\n" % n for n in range(1, lines + 1)) + b"over-%d-lines\r\n" % lines
    assert printed[: len(expected)] == expected


async def refreshes(api) -> int:
    """The number of successful refreshes."""
    return [detail for _, detail in await audit_entries(api, "agent.refresh")].count({})


async def test_an_answer_that_was_lost_is_given_again(api):
    """A refresh token is accepted again until the agent uses one of its successors, however long the agent was away
    and whatever the database's clock says meanwhile."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        lost = await call_api(socket, agent.refresh_token)
        async with await connect(api.database_url) as conn:
            await conn.execute("update refresh_tokens set used_at = used_at - interval '1 day'")
        again = await call_api(socket, agent.refresh_token)
        assert again["refresh_token"] != lost["refresh_token"]
        newest = await call_api(socket, again["refresh_token"])
        # Someone uses the tokens of the lost answer.
        assert await by_http(api, lost["refresh_token"]) == 401
        assert await by_http(api, newest["refresh_token"]) == 401, "the family is revoked"
        assert await close_code(socket) == CloseCode.TOKEN_REUSED


async def test_a_stolen_token_ends_everything_and_raises_an_alert(api):
    """The reuse of a token after its successor was used closes the connection, revokes the family and raises an
    alert."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        second = await call_api(socket, agent.refresh_token)
        await call_api(socket, second["refresh_token"])
        assert await by_http(api, agent.refresh_token) == 401
        assert await close_code(socket) == CloseCode.TOKEN_REUSED
    async with await connect(api.database_url) as conn:
        cursor = await conn.execute("select kind, agent_id::text, text from alerts")
        assert [(row["kind"], row["agent_id"]) for row in await cursor.fetchall()] == [
            ("refresh_token_reused", agent.id)
        ]


async def test_an_agent_without_the_servers_recovery_secret_gets_one(api):
    """A refresh tells the hash of the secret: the answer has a new one if the server's differs. Agents of the first
    release tell none, and get none."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        token = agent.refresh_token

        async def secret_for(**told: str) -> str | None:
            nonlocal token
            await socket.send(json.dumps({"type": "refresh", "refresh_token": token, **told}))
            while (answer := json.loads(await socket.recv()))["type"] != "tokens":
                pass
            token = answer["refresh_token"]
            return answer["recovery_secret"]

        assert await secret_for() is None
        new = await secret_for(recovery_hash="")
        assert new not in (None, agent.recovery_secret)
        assert await secret_for(recovery_hash=hashlib.sha256(new.encode()).hexdigest()) is None
        old = hashlib.sha256(agent.recovery_secret.encode()).hexdigest()
        assert await secret_for(recovery_hash=old) not in (None, new)


async def test_another_agents_token_is_not_known(api):
    """A refresh token of another agent is rejected over this agent's connection, and stays valid."""
    one, two = await api.enrol("one"), await api.enrol("two")
    async with api.agent_socket(one) as socket:
        await socket.send(HELLO_TEXT)
        await socket.recv()
        await socket.send(json.dumps({"type": "refresh", "refresh_token": two.refresh_token}))
        assert await close_code(socket) == CloseCode.REFRESH_REJECTED
    assert await by_http(api, two.refresh_token) == 200


@pytest.mark.parametrize("frame", [encode_output(0, b"late"), '{"type":"resized","columns":9,"rows":9}'])
async def test_after_the_end_only_a_refresh_is_taken(api, frame):
    """After the access token's expiry a refresh within the grace period continues the connection; any other frame ends
    it."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await socket.recv()
        expire_token(api)
        await call_api(socket, agent.refresh_token)
        await socket.send(encode_output(0, b"in time"))
        await next_message(socket, "acknowledged")
        expire_token(api)
        await socket.send(frame)
        assert await close_code(socket) == CloseCode.TOKEN_EXPIRED


def expire_token(api) -> None:
    """Let the access token of the only connection expire now."""
    next(iter(api.services.hub.links.values()))._expires_at = time.monotonic() - 1


async def test_a_silent_connection_ends_after_the_grace(settings, monkeypatch):
    """A connection whose access token has expired is closed after the grace period."""
    monkeypatch.setattr(agent_socket, "GRACE_SECONDS", 0.2)
    async with running(replace(settings, agent_access_token=2.0)) as api:
        for number in itertools.count():
            try:
                socket = await api.agent_socket(await api.enrol(f"agent-{number}"))
            except InvalidStatus:  # on a busy machine the token may expire before the upgrade
                continue
            break
        await socket.send(HELLO_TEXT)
        assert await close_code(socket) == CloseCode.TOKEN_EXPIRED
