"""What a server may give as its release, and what an agent takes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from onsembl.agent import update
from onsembl.agent.enrolment import credentials as store
from onsembl.agent.errors import AgentError
from onsembl.agent.folder_lock import lock_folder
from onsembl.agent.update import fetch_wheel, read_release, running_agents, usable_credentials
from onsembl.protocol.release import MAX_WHEEL_BYTES, Release

WHEEL = b"the content of a wheel"
DESCRIPTION: dict[str, Any] = {
    "version": "2.0",
    "wheel": "onsembl-2.0-py3-none-any.whl",
    "size": len(WHEEL),
    "sha256": hashlib.sha256(WHEEL).hexdigest(),
}
RELEASE = msgspec.convert(DESCRIPTION, Release)
CREDENTIALS = store.Credentials(
    server="https://server.test",
    agent_id="1",
    name="one",
    kind="shell",
    access_token="access-1",
    access_expires_at=time.time() + 900,
    refresh_token="refresh-1",
)

Answering = Callable[[httpx.Response], list[httpx.Request]]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Answering:
    """Let the server answer every request so; returns the requests."""

    def answer(response: httpx.Response) -> list[httpx.Request]:
        requests: list[httpx.Request] = []

        async def handle(_: object, request: httpx.Request) -> httpx.Response:
            requests.append(request)
            return response

        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", handle)
        return requests

    return answer


async def test_the_release_is_asked_for_with_the_agents_token(answering: Answering):
    """At the agent's own server."""
    requests = answering(httpx.Response(200, json=DESCRIPTION))
    assert await read_release(CREDENTIALS) == RELEASE
    [request] = requests
    assert str(request.url) == "https://server.test/v1/agent/release"
    assert request.headers["Authorization"] == "Bearer access-1"


@pytest.mark.parametrize(
    "changed",
    [
        {"wheel": "../onsembl-2.0-py3-none-any.whl"},
        {"wheel": "other-2.0-py3-none-any.whl"},
        {"wheel": "onsembl-2.0.tar.gz"},
        {"wheel": "onsembl-2.0-py3-none-any.whl\n"},
        {"version": "2.0; echo"},
        {"size": MAX_WHEEL_BYTES + 1},
        {"size": 0},
        {"sha256": "0" * 63},
    ],
)
async def test_a_release_that_no_server_describes_is_refused(answering: Answering, changed: dict[str, Any]):
    """A file name with a folder, another package, a size above the limit."""
    answering(httpx.Response(200, json=DESCRIPTION | changed))
    with pytest.raises(AgentError, match="describes no release"):
        await read_release(CREDENTIALS)


PROBLEM = {"status": 404, "detail": "This server has no wheel.", "type": "urn:onsembl:problem:no-wheel"}


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (httpx.Response(200, content=WHEEL[:-1]), "not the one that it describes"),
        (httpx.Response(200, content=WHEEL[:-1] + b"!"), "not the one that it describes"),
        (httpx.Response(200, content=WHEEL + b"!"), "more than 22 bytes"),
        (httpx.Response(302, headers={"Location": "https://elsewhere.test/"}), "answers 302"),
        (httpx.Response(404, text="a proxy's page"), "answers 404"),
        (
            httpx.Response(404, content=json.dumps(PROBLEM), headers={"Content-Type": "application/problem+json"}),
            "This server has no wheel",
        ),
    ],
)
async def test_a_wheel_that_is_not_the_described_one_is_not_kept(
    answering: Answering, tmp_path: Path, response: httpx.Response, said: str
):
    """Nor is an answer of another server, to which no redirect leads."""
    requests = answering(response)
    with pytest.raises(AgentError, match=said):
        await fetch_wheel(CREDENTIALS, RELEASE, tmp_path)
    assert len(requests) == 1


async def test_a_wheel_is_fetched(answering: Answering, tmp_path: Path):
    """Into the given folder, under its name."""
    answering(httpx.Response(200, content=WHEEL))
    path = await fetch_wheel(CREDENTIALS, RELEASE, tmp_path)
    assert (path, path.read_bytes()) == (tmp_path / RELEASE.wheel, WHEEL)


async def test_an_expired_token_is_exchanged_only_if_the_agent_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A running agent exchanges its own: a refresh token that is used twice looks like a thief's."""
    renewed = CREDENTIALS.renewed("access-2", 900, "refresh-2")
    presented: list[str] = []

    async def refresh(credentials: store.Credentials) -> store.Credentials:
        presented.append(credentials.refresh_token)
        return renewed

    monkeypatch.setattr(update, "refresh", refresh)
    folder = tmp_path / "one"
    store.save(folder, CREDENTIALS)
    assert await usable_credentials(folder) == CREDENTIALS
    store.save(folder, msgspec.structs.replace(CREDENTIALS, access_expires_at=time.time()))
    lock = lock_folder(folder)
    assert running_agents(tmp_path) == ["one"]
    with pytest.raises(AgentError, match="running agent one has no valid access token"):
        await usable_credentials(folder)
    os.close(lock)
    assert (presented, running_agents(tmp_path)) == ([], [])
    assert await usable_credentials(folder) == renewed == store.load(folder)
    assert presented == ["refresh-1"]
