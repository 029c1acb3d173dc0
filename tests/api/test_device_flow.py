"""The device flow's routes: the answers of RFC 8628, which reveal no code to other callers."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from support.agents import until
from support.cases import cases
from support.frames import HELLO_TEXT, close_code, next_message
from support.server import Enrolled, running

from onsembl.api.auth.device_flow import MAX_OPEN, MAX_OPEN_PER_ADDRESS, USER_CODE_LETTERS
from onsembl.api.auth.rate_limits import Allowance, RateLimits
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.enrolment import CLIENT_ID, GRANT_TYPE
from onsembl.protocol.states import Role
from onsembl.sql import refresh_tokens
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker

ABOUT = {"client_id": CLIENT_ID, "name": "builder-1", "kind": "shell", "host": "box", "platform": "Linux"}


async def asked(api, **about: str) -> dict:
    answer = await api.http.post("/v1/device/authorization", data={**ABOUT, **about})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


async def polled(api, code: dict | str) -> dict:
    """Poll as if the interval were over."""
    async with await connect(api.database_url) as conn:
        await conn.execute("update device_requests set polled_at = polled_at - interval '1 hour'")
    return await polled_again(api, code)


async def polled_again(api, code: dict | str) -> dict:
    device_code = code if isinstance(code, str) else code["device_code"]
    form = {"grant_type": GRANT_TYPE, "device_code": device_code, "client_id": CLIENT_ID}
    answer = await api.http.post("/v1/device/token", data=form)
    assert answer.status_code == (200 if "access_token" in answer.text else 400), answer.text
    return answer.json()


async def decided(api, headers, code: dict, verb: str, expected: int = 200, **body) -> dict:
    found = await api.http.get(f"/v1/device/requests/{code['user_code']}", headers=headers)
    if found.status_code != 200:
        return {"status": found.status_code}
    answer = await api.http.post(f"/v1/device/requests/{found.json()['id']}/{verb}", json=body, headers=headers)
    assert answer.status_code == expected, answer.text
    return answer.json()


@pytest.fixture
async def admin(api) -> dict:
    return (await api.operator()).headers


async def test_the_whole_flow(api, admin):
    """A request is pending, shown to an admin with the machine's details, approved, and the agent connects."""
    code = await asked(api)
    assert re.fullmatch(f"[{USER_CODE_LETTERS}]{{4}}-[{USER_CODE_LETTERS}]{{4}}", code["user_code"])
    assert code["verification_uri"] == f"{api.url}/#/approve"
    assert code["verification_uri_complete"].endswith(f"?code={code['user_code']}")
    assert (code["expires_in"], code["interval"]) == (900, 5)
    assert (await polled(api, code))["error"] == "authorization_pending"
    typed = code["user_code"].lower().replace("-", " ")
    request = (await api.http.get(f"/v1/device/requests/{typed}", headers=admin)).json()
    shown = {name: request[name] for name in ("name", "kind", "host", "platform", "address", "state")}
    assert shown == {
        "name": "builder-1",
        "kind": "shell",
        "host": "box",
        "platform": "Linux",
        "address": "127.0.0.1",
        "state": "waiting",
    }
    approved = await decided(api, admin, code, "approve", name="builder-2")
    assert (approved["state"], approved["name"]) == ("approved", "builder-2")
    given = await polled(api, code)
    assert (given["name"], given["token_type"]) == ("builder-2", "Bearer")
    agent = Enrolled(given["agent_id"], given["name"], given["access_token"], given["refresh_token"])
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        assert (await next_message(socket, "welcome"))["name"] == "builder-2"


async def test_who_asks_too_often_is_slowed_down(api):
    """A machine that polls too often gets `slow_down` and an interval that is five seconds longer."""
    code = await asked(api)
    assert (await polled_again(api, code))["error"] == "authorization_pending"
    assert (await polled_again(api, code))["error"] == "slow_down"
    assert (await polled(api, code))["error"] == "authorization_pending"
    async with await connect(api.database_url) as conn:
        row = await (await conn.execute("select poll_seconds from device_requests")).fetchone()
    assert row["poll_seconds"] == 10


async def test_a_refusal_an_end_and_a_foreign_code_are_told_apart(api, admin):
    """A rejection, an expiry and an unknown code each answer with their own error code of RFC 8628."""
    code = await asked(api)
    await decided(api, admin, code, "refuse")
    assert (await polled(api, code))["error"] == "access_denied"
    late = await asked(api)
    async with await connect(api.database_url) as conn:
        await conn.execute("update device_requests set expires_at = now() - %s", [timedelta(seconds=1)])
    assert (await polled(api, late))["error"] == "expired_token"
    assert (await decided(api, admin, late, "approve"))["status"] == 404
    assert (await polled(api, "ond_" + "x" * 43))["error"] == "invalid_grant"


async def test_an_answer_that_was_lost_is_given_again_and_the_first_is_good_for_nothing(api, admin):
    """A repeated poll within minutes returns new tokens and invalidates the first ones; later the code is spent."""
    code = await asked(api)
    await decided(api, admin, code, "approve")
    lost, kept = await polled(api, code), await polled(api, code)
    assert lost["agent_id"] == kept["agent_id"]

    async def refreshed(tokens: dict) -> int:
        headers = {"Authorization": f"Bearer {tokens['refresh_token']}"}
        return (await api.http.post("/v1/agents/token", headers=headers)).status_code

    assert [await refreshed(lost), await refreshed(kept)] == [401, 200]
    async with await connect(api.database_url) as conn:
        await conn.execute("update device_requests set taken_at = now() - interval '1 hour'")
    assert (await polled(api, code))["error"] == "invalid_grant"


async def test_two_who_decide_at_once(api, admin):
    """Of two simultaneous decisions one is applied and the other answers 409."""
    code = await asked(api)
    id = (await api.http.get(f"/v1/device/requests/{code['user_code']}", headers=admin)).json()["id"]
    answers = await asyncio.gather(
        *(api.http.post(f"/v1/device/requests/{id}/{verb}", json={}, headers=admin) for verb in ("approve", "refuse"))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_an_agent_that_there_is_gets_new_credentials_only_on_demand(api, admin):
    """An existing agent's name answers 409 unless the admin replaces the agent, whose credentials and connection then
    end."""
    old = await api.enrol("builder-1")
    async with api.agent_socket(old) as socket:
        await socket.send(HELLO_TEXT)
        await socket.recv()
        code = await asked(api)
        conflict = await decided(api, admin, code, "approve", expected=409)
        assert conflict["replaceable"] is True
        assert (await decided(api, admin, code, "approve", replace=True))["agent_id"] == old.id
        assert await close_code(socket) == CloseCode.REVOKED
    given = await polled(api, code)
    agent = Enrolled(given["agent_id"], given["name"], given["access_token"], given["refresh_token"])
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")


async def test_a_revoked_token_cannot_log_the_agent_out(api, admin):
    """A revoked refresh token does not end the credentials that the agent received later."""
    old = await api.enrol("builder-1")
    stolen = old.refresh_token
    code = await asked(api)
    await decided(api, admin, code, "approve", replace=True)
    given = await polled(api, code)
    agent = Enrolled(given["agent_id"], given["name"], given["access_token"], given["refresh_token"])
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        for _ in range(2):
            answer = await api.http.post("/v1/agents/logout", headers={"Authorization": f"Bearer {stolen}"})
            assert answer.status_code == 200, "RFC 7009 §2.2"
        await socket.send(json.dumps({"type": "refresh", "refresh_token": agent.refresh_token}))
        assert (await next_message(socket, "tokens"))["expires_in"] > 0


async def test_what_is_being_given_to_an_agent_that_is_replaced_ends_too(api, admin, monkeypatch):
    """A refresh that runs while an admin replaces the agent returns tokens that are revoked, too."""
    agent = await api.enrol("builder-1")
    code = await asked(api)
    use = refresh_tokens.use
    replacing: list[asyncio.Task] = []

    async def replaced_meanwhile(*arguments) -> None:
        replacing.append(asyncio.create_task(decided(api, admin, code, "approve", replace=True)))

        async def goes_on() -> bool:
            return replacing[0].done() or await waits_for_a_lock(api)

        await until(goes_on, "the replacement to be done, or to wait for the refresh")
        await use(*arguments)

    monkeypatch.setattr(refresh_tokens, "use", replaced_meanwhile)
    headers = {"Authorization": f"Bearer {agent.refresh_token}"}
    given = await api.http.post("/v1/agents/token", headers=headers)
    assert given.status_code == 200
    assert (await replacing[0])["agent_id"] == agent.id
    headers = {"Authorization": f"Bearer {given.json()['refresh_token']}"}
    assert (await api.http.post("/v1/agents/token", headers=headers)).status_code == 401


async def waits_for_a_lock(api) -> bool:
    async with await connect(api.database_url) as conn:
        cursor = await conn.execute(
            "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        return await cursor.fetchone() is not None


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_only_an_admin_decides(api, role):
    """Only an admin lists and decides requests."""
    code = await asked(api)
    headers = (await api.operator(role)).headers
    assert (await api.http.get("/v1/device/requests", headers=headers)).status_code == 403
    assert (await decided(api, headers, code, "approve"))["status"] == 403


@cases(
    ("path", "content", "status"),
    [
        ("authorization", {"data": {**ABOUT, "kind": "tank"}}, 400),
        ("authorization", {"data": {**ABOUT, "name": "../x"}}, 400),
        ("authorization", {"json": ABOUT}, 415),
        ("authorization", {"data": {**ABOUT, "host": "x" * 20_000}}, 413),
        ("token", {"data": {"grant_type": "password"}}, 400),
        ("token", {"data": {"grant_type": GRANT_TYPE}}, 400),
    ],
)
async def test_what_is_no_request_is_refused(api, path, content, status):
    """An invalid request is rejected and stores no row."""
    assert (await api.http.post(f"/v1/device/{path}", **content)).status_code == status
    async with await connect(api.database_url) as conn:
        row = await (await conn.execute("select count(*) as count from device_requests")).fetchone()
    assert row["count"] == 0


async def test_guessing_codes_is_limited(settings):
    """After too many wrong codes an address is rejected; a right code does not count."""
    async with running(replace(settings, limits=RateLimits(user_codes=Allowance(3, 1000.0)))) as api:
        admin = (await api.operator()).headers
        code = await asked(api)
        statuses = []
        for wrong in ("BBBB-BBBB", "CCCC-CCCC", None, "DDDD-DDDD", "FFFF-FFFF"):
            path = f"/v1/device/requests/{wrong or code['user_code']}"
            statuses.append((await api.http.get(path, headers=admin)).status_code)
        assert statuses == [404, 404, 200, 404, 429]


async def test_a_flood_of_requests_is_bounded(settings):
    """Requests are limited per address, by waiting requests of an address and by all waiting requests, and an address
    or an IPv6 /64 that reaches its limit does not block others."""
    limits = RateLimits(address_device_requests=Allowance(MAX_OPEN_PER_ADDRESS + 1, 1000.0))
    async with running(replace(settings, limits=limits, client_address_header="X-Client")) as api:

        async def ask(address: str) -> int:
            answer = await api.http.post("/v1/device/authorization", data=ABOUT, headers={"X-Client": address})
            if answer.status_code == 503:
                assert answer.json()["error"] == "temporarily_unavailable"
            return answer.status_code

        of_one = [await ask(f"2001:db8::{number:x}") for number in range(MAX_OPEN_PER_ADDRESS + 2)]
        assert of_one == [200] * MAX_OPEN_PER_ADDRESS + [503, 429]
        of_others = [await ask(f"192.0.2.{number}") for number in range(MAX_OPEN - MAX_OPEN_PER_ADDRESS + 1)]
        assert of_others == [200] * (MAX_OPEN - MAX_OPEN_PER_ADDRESS) + [503]
