"""A valid access token of an account that is banned, deleted, demoted or signed out by Supabase's own API."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import takewhile
from uuid import uuid4

import httpx
import psycopg
import pytest
from support.agents import until
from support.cases import cases
from support.frames import attach, close_code
from support.server import PASSWORD, Api
from websockets.asyncio.client import connect as websocket

from onsembl.api.auth import accounts
from onsembl.api.auth.accounts import LOOK_SECONDS, RETRY_SECONDS, Accounts, Finding, hosted_look
from onsembl.api.auth.operator import Operator, operator_from
from onsembl.api.auth.supabase_user import NoAnswer
from onsembl.api.http.problems import SECOND_FACTOR_PROBLEM, Problem
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import OperatorId
from onsembl.protocol.states import Role
from onsembl.realtime.channels.queries import PolicyQuery
from onsembl.sql.instances import BROADCAST_CHANNEL

from .test_revocation import two_instances

pytestmark = pytest.mark.no_worker

EVE = Operator(OperatorId(uuid4()), "eve@example.org", Role.ADMIN, "session", time.time() + 3600)
CLAIMS = {"sub": str(EVE.id), "exp": EVE.expires_at}


@pytest.fixture
async def instances(settings):
    async with two_instances(settings) as both:
        yield both


@cases(
    ("name", "method", "body", "status", "code"),
    [
        ("banned", "PUT", {"ban_duration": "1h"}, 403, CloseCode.FORBIDDEN),
        ("deleted", "DELETE", None, 401, CloseCode.UNAUTHENTICATED),
        ("former", "PUT", {"app_metadata": {"role": None}}, 403, CloseCode.FORBIDDEN),
        ("demoted", "PUT", {"app_metadata": {"role": "viewer"}}, 200, CloseCode.TOKEN_EXPIRED),
        ("signed-out", "POST", None, 401, CloseCode.UNAUTHENTICATED),
    ],
)
async def test_a_change_of_the_account_ends_what_the_token_opened(instances, name, method, body, status, code):
    """A ban, a deletion, a demotion or a global sign-out by Supabase's own API closes the operator's terminals and the
    Realtime socket at every instance, and counts for every later request; a demoted operator goes on as a viewer."""
    here, there = instances
    secret = here.services.builtin.secret_key
    admin = {"apikey": secret, "Authorization": f"Bearer {secret}"}
    user = {"email": f"{name}@example.org", "password": PASSWORD, "email_confirm": True}
    made = await here.http.post("/auth/v1/admin/users", json={**user, "app_metadata": {"role": "admin"}}, headers=admin)
    account = await here.sign_in(user["email"])
    agent = await here.enrol(name)
    join = {"topic": "realtime:onsembl-x", "event": "phx_join", "ref": "1", "join_ref": "1"}
    join["payload"] = {"config": {"private": True}, "access_token": account.access_token}
    async with (
        here.terminal_socket(agent.id) as one,
        there.terminal_socket(agent.id) as two,
        websocket(f"{here.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={await here.key()}") as realtime,
    ):
        await attach(one, account.access_token)
        await attach(two, account.access_token)
        await realtime.send(json.dumps(join))
        assert json.loads(await realtime.recv())["payload"]["status"] == "ok"
        for api in instances:
            assert (await api.http.get("/v1/operators", headers=account.headers)).status_code == 200
        if method == "POST":
            headers = {"apikey": secret, **account.headers}
            answer = await here.http.post("/auth/v1/logout?scope=global", headers=headers)
        else:
            answer = await here.http.request(
                method, f"/auth/v1/admin/users/{made.json()['id']}", json=body, headers=admin
            )
        assert answer.status_code in (200, 204), answer.text
        assert await close_code(one) == await close_code(two) == code
        assert await close_code(realtime) == CloseCode.NORMAL
    for api in instances:

        async def told(api: Api = api) -> bool:
            return (await api.http.get("/v1/operators", headers=account.headers)).status_code in (401, 403)

        await until(told, "the instance to have heard")
        assert (await api.http.get("/v1/me", headers=account.headers)).status_code == status
    policy = here.services.builtin.realtime
    claims = json.dumps(policy.verify(account.access_token))
    readable = await policy.policies("onsembl-x", "authenticated", claims, PolicyQuery(read=frozenset({"broadcast"})))
    assert bool(readable.read) == (status == 200)


@pytest.mark.parametrize(
    "change",
    [
        "update auth.users set banned_until = now() + interval '1 hour' where id = %s",
        "update auth.users set app_metadata = '{}' where id = %s",
        "delete from auth.users where id = %s",
        "delete from auth.sessions where user_id = %s",
    ],
)
def test_every_change_of_an_account_is_announced(database_url, change):
    """By its own row: also a user without a session is deleted for every instance."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        found = conn.execute(
            "insert into auth.users (email, encrypted_password) values ('ann@example.org', 'x') returning id"
        ).fetchone()
        assert found is not None
        if "sessions" in change:
            conn.execute("insert into auth.sessions (user_id) values (%s)", found)
        conn.execute(f"listen {BROADCAST_CHANNEL}")
        conn.execute(change, found)
        conn.execute("select pg_notify(%s, 'last')", [BROADCAST_CHANNEL])
        (told,) = [json.loads(each.payload) for each in takewhile(lambda one: one.payload != "last", conn.notifies())]
        assert told == {"op": "operator_changed", "operator_id": str(found[0])}


class Clock:
    """Replaces `time` in `accounts`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(accounts, "time", clock)
    return clock


class HostedAuth:
    """The Auth of a hosted project, which answers `GET /user` with `answer`; `looks` counts the requests."""

    def __init__(self) -> None:
        self.answer: httpx.Response | Exception = user_answer("admin")
        self.looks = 0
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._serve))
        self.accounts = Accounts(hosted_look(client, "https://project.example/auth/v1", "key"))

    def _serve(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://project.example/auth/v1/user"
        assert (request.headers["authorization"], request.headers["apikey"]) == ("Bearer token", "key")
        self.looks += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def outcome(self) -> Role | int | None:
        """The operator's present role, or the status of the problem."""
        try:
            return (await self.accounts.present(EVE, "token")).role
        except Problem as problem:
            return problem.status


def user_answer(role: str | None, factor: str | None = None) -> httpx.Response:
    factors = {} if factor is None else {"factors": [{"id": str(uuid4()), "factor_type": "totp", "status": factor}]}
    return httpx.Response(200, json={"id": str(EVE.id), "app_metadata": {"role": role}, **factors})


def rejection(status: int, code: str | None) -> httpx.Response:
    return httpx.Response(status, json={"error_code": code} if code else {"message": "Invalid API key"})


async def test_a_hosted_project_is_asked_once_a_minute(clock):
    """However often an operator acts, the project is asked about a session at most every 60 s, and an operator who does
    not act causes no request."""
    project = HostedAuth()
    for _ in range(100):
        assert await project.outcome() is Role.ADMIN
        clock.now += 0.5
    assert project.looks == 1
    clock.now = LOOK_SECONDS
    project.answer = user_answer("viewer")
    assert [await project.outcome() for _ in range(3)] == [Role.VIEWER] * 3
    clock.now += 10 * LOOK_SECONDS
    assert project.looks == 2
    project.accounts.forget(EVE.id)
    project.answer = user_answer("root")
    assert await project.outcome() is None
    assert project.looks == 3


@cases(
    ("answer", "outcome"),
    [
        (rejection(403, "user_banned"), 403),
        (rejection(403, "session_not_found"), 401),
        (rejection(403, "user_not_found"), 401),
        (rejection(403, "bad_jwt"), 401),
        (httpx.Response(403, headers={"x-sb-error-code": "session_not_found"}, json={"code": 403}), 401),
        (rejection(401, None), Role.ADMIN),
        (rejection(403, "something_new"), Role.ADMIN),
        (httpx.Response(403, text="<html>a proxy"), Role.ADMIN),
        (httpx.Response(200, text="<html>a sign-in page of a hotel"), Role.ADMIN),
        (httpx.Response(200, json=[]), Role.ADMIN),
        (httpx.Response(200, json={"id": str(uuid4()), "app_metadata": {"role": "viewer"}}), Role.ADMIN),
        (httpx.Response(429, json={"error_code": "over_request_rate_limit"}), Role.ADMIN),
        (httpx.Response(500, json={"error_code": "unexpected_failure"}), Role.ADMIN),
        (httpx.ConnectError("no"), Role.ADMIN),
        (httpx.ReadTimeout("no"), Role.ADMIN),
    ],
)
async def test_only_the_project_itself_ends_a_session(clock, answer, outcome):
    """Only an answer of Supabase Auth about this account counts; after any other, and while there is none, the token
    counts, and the project is asked again soon."""
    project = HostedAuth()
    project.answer = answer
    clock.now = 0.0
    assert await project.outcome() == outcome
    if outcome is Role.ADMIN:
        clock.now = RETRY_SECONDS
        project.answer = rejection(403, "user_banned")
        assert await project.outcome() == 403


@cases(
    ("answer", "silent"),
    [
        (lambda: user_answer("viewer"), Role.VIEWER),
        (lambda: user_answer(None), None),
        (lambda: rejection(403, "user_banned"), 403),
        (lambda: rejection(403, "session_not_found"), 401),
        (lambda: rejection(403, "bad_jwt"), Role.ADMIN),
    ],
)
async def test_the_last_answer_counts_while_a_project_is_silent(clock, answer, silent):
    """A demotion, a ban and the end of a session outlast the silence of the project; a token that it did not accept
    says nothing of the next one. A new answer counts at once."""
    project = HostedAuth()
    clock.now = 0.0
    project.answer = answer()
    before = await project.outcome()
    project.answer = httpx.ConnectError("no")
    for _ in range(2):
        clock.now += LOOK_SECONDS
        assert await project.outcome() == silent
        assert project.accounts.is_unanswered(EVE) == (not isinstance(silent, int))
    clock.now += LOOK_SECONDS
    project.answer = answer()
    assert await project.outcome() == before
    assert not project.accounts.is_unanswered(EVE)


async def test_a_project_that_is_silent_delays_few_requests(clock, monkeypatch):
    """A project that answers no request in time is asked again some time after that, and not at the next request."""
    project = HostedAuth()

    async def times_out(*_: object) -> None:
        clock.now += 2 * RETRY_SECONDS
        project.looks += 1
        raise NoAnswer

    monkeypatch.setattr(accounts, "user_of", times_out)
    assert [await project.outcome() for _ in range(3)] == [Role.ADMIN] * 3
    assert project.looks == 1


async def test_a_second_factor_is_required(clock):
    """An account with a verified factor is let in only by a session with it, even if another session of the same user
    was let in before, and also while the project does not answer; a factor that is not yet verified does not count."""
    project = HostedAuth()
    project.answer = user_answer("admin", "unverified")
    assert await project.outcome() is Role.ADMIN
    clock.now = LOOK_SECONDS
    project.answer = user_answer("admin", "verified")
    with pytest.raises(Problem) as missing:
        await project.accounts.present(EVE, "token")
    assert missing.value.status == 401 and missing.value.extra["type"] == SECOND_FACTOR_PROBLEM
    strong = replace(EVE, second_factor=True)
    assert (await project.accounts.present(strong, "token")).role is Role.ADMIN
    assert await project.outcome() == 401
    project.answer = httpx.ConnectError("no")
    assert await project.outcome() == 503
    clock.now += LOOK_SECONDS
    assert (await project.accounts.present(strong, "token")).role is Role.ADMIN
    project.answer = user_answer("admin")
    assert await project.outcome() is Role.ADMIN
    assert [operator_from({**CLAIMS, **more}).second_factor for more in ({}, {"aal": "aal1"}, {"aal": "aal2"})] == [
        False,
        False,
        True,
    ]


@cases(("factors",), [(None,), ({},), (["verified"],), ([{"status": ["verified"]}],), ([{}],)])
async def test_factors_in_another_form_are_none(clock, factors):
    """Factors that this program does not understand lock nobody out."""
    project = HostedAuth()
    project.answer = httpx.Response(
        200, json={"id": str(EVE.id), "app_metadata": {"role": "admin"}, "factors": factors}
    )
    assert await project.outcome() is Role.ADMIN


async def test_a_change_during_a_look_is_not_lost(clock):
    """An answer that was asked for before a change is not kept."""
    role: Role | None = Role.ADMIN

    async def look(operator: Operator, token: str) -> Finding:
        nonlocal role
        present, role = role, Role.VIEWER
        known.forget(operator.id)
        return Finding(present, float("inf"))

    known = Accounts(look)
    assert (await known.present(EVE, "token")).role is Role.ADMIN
    assert (await known.present(EVE, "token")).role is Role.VIEWER
