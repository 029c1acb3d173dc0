"""Operators of a hosted project whose accounts change by Supabase's own API."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import uuid4

import pytest
from support.cases import cases
from support.databases import fresh_database
from support.frames import attach, close_code, next_message
from support.server import running

from onsembl.api.auth import accounts
from onsembl.api.auth.accounts import LOOK_SECONDS
from onsembl.api.auth.supabase_user import NoAnswer, user_of
from onsembl.api.settings import Settings
from onsembl.api.terminals import terminal_socket
from onsembl.protocol.close_codes import CloseCode
from onsembl.realtime.hosted import HostedProject

from .conftest import running_project


class Clock:
    """Replaces `time` in `accounts`."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(accounts, "time", clock)
    monkeypatch.setattr(accounts, "LOOK_SECONDS", 1000 * LOOK_SECONDS)  # However slow the machine is.
    return clock


class Silence:
    """Lets the project leave the next `looks` at an account without an answer."""

    looks = 0

    async def user_of(self, *arguments: Any) -> dict[str, Any]:
        if self.looks:
            self.looks -= 1
            raise NoAnswer
        return await user_of(*arguments)


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Silence:
    silence = Silence()
    monkeypatch.setattr(accounts, "user_of", silence.user_of)
    for module in (accounts, terminal_socket):
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    return silence


@pytest.fixture
async def hosted(postgres: Any, database_url: str, clock: Clock) -> Any:
    """A project with a database of its own, and a server that uses it as a hosted one."""
    with fresh_database(postgres, "template_onsembl") as url:
        async with running_project(url) as project:
            supabase = HostedProject(project.url, project.key, project.secret, f"{project.url}/auth/v1")
            settings = Settings(
                database_url=database_url,
                public_url="",
                worker=None,
                hosted=supabase,
                heartbeat=600.0,  # no look waits for it
            )
            async with running(settings) as api:
                yield project, api


@cases(
    ("name", "method", "body", "status", "code"),
    [
        ("banned", "PUT", {"ban_duration": "1h"}, 403, CloseCode.FORBIDDEN),
        ("deleted", "DELETE", None, 401, CloseCode.UNAUTHENTICATED),
        ("demoted", "PUT", {"app_metadata": {"role": "viewer"}}, 200, CloseCode.TOKEN_EXPIRED),
        ("signed-out", "POST", None, 401, CloseCode.UNAUTHENTICATED),
    ],
)
async def test_the_next_look_ends_requests_and_the_sockets_of_who_acts(
    hosted: Any, clock: Clock, silence: Silence, name: str, method: str, body: Any, status: int, code: CloseCode
) -> None:
    """Within the time of a look the token counts; after it, requests are rejected, and a terminal into which its
    operator types is closed, also if the project does not answer the first look. A terminal that is only watched costs
    no look."""
    project, api = hosted
    await project.operator(f"{name}@example.org")
    session = await project.sign_in(f"{name}@example.org")
    headers = {"Authorization": f"Bearer {session['access_token']}"}
    agent = await api.enrol(name)
    async with api.terminal_socket(agent.id) as types, api.terminal_socket(agent.id) as watches:
        await attach(types, session["access_token"])
        await attach(watches, session["access_token"])
        admin = {"apikey": project.secret, "Authorization": f"Bearer {project.secret}"}
        path = f"/auth/v1/admin/users/{session['user']['id']}"
        if method == "POST":
            admin["Authorization"], path = headers["Authorization"], "/auth/v1/logout?scope=global"
        assert (await project.http.request(method, path, json=body, headers=admin)).status_code in (200, 204)
        assert (await api.http.get("/v1/operators", headers=headers)).status_code == 200
        clock.ahead += 1001 * LOOK_SECONDS
        silence.looks = 1
        await types.send(json.dumps({"type": "take_control", "client_id": str(uuid4())}))
        assert await close_code(types) == code
        assert silence.looks == 0
        await watches.send('{"type": "ping"}')
        await next_message(watches, "pong")
        assert (await api.http.get("/v1/me", headers=headers)).status_code == status
        assert (await api.http.get("/v1/operators", headers=headers)).status_code in (401, 403)
