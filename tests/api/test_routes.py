"""The REST API, tested from outside."""

from __future__ import annotations

from uuid import uuid4

import jsonschema
import pytest
from openapi_spec_validator import validate
from support.cases import cases
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from onsembl.protocol.states import Role

pytestmark = pytest.mark.no_worker


async def test_only_the_page_health_and_sign_in_are_open(api):
    """Every route except the page, health and sign-in answers 401 to a caller without a token."""
    for path in ("/healthz", "/readyz", "/config.json", "/auth/v1/.well-known/jwks.json"):
        assert (await api.http.get(path)).status_code == 200, path
    for method, path in (
        ("GET", "/v1/me"),
        ("GET", "/v1/agents"),
        ("GET", f"/v1/agents/{uuid4()}"),
        ("POST", f"/v1/agents/{uuid4()}/commands"),
        ("GET", "/v1/commands"),
        ("GET", f"/v1/commands/{uuid4()}"),
        ("POST", f"/v1/commands/{uuid4()}/cancel"),
        ("POST", "/v1/enrolment-tokens"),
        ("POST", "/v1/agents/enrol"),
        ("POST", "/v1/agents/token"),
        ("GET", "/openapi.json"),
    ):
        response = await api.http.request(method, path)
        assert response.status_code == 401, path
        assert response.headers["content-type"] == "application/problem+json"


async def test_answers_fit_the_served_openapi_document(api):
    """The OpenAPI document is valid OpenAPI 3.1, and the routes' answers fit its schemas."""
    admin = await api.operator()
    document = (await api.http.get("/openapi.json", headers=admin.headers)).json()
    validate(document)
    agent = await api.enrol()
    created = await api.http.post(f"/v1/agents/{agent.id}/commands", json={"text": "ls"}, headers=admin.headers)
    assert created.status_code == 201

    def check(name: str, answer: object) -> None:
        jsonschema.validate(answer, {"$ref": f"#/components/schemas/{name}", "components": document["components"]})

    check("Command", created.json())
    check("Agents", (await api.http.get("/v1/agents", headers=admin.headers)).json())
    check("Commands", (await api.http.get("/v1/commands", headers=admin.headers)).json())
    check("Me", (await api.http.get("/v1/me", headers=admin.headers)).json())


async def test_a_viewer_looks_and_does_not_command(api):
    """A viewer reads agents, and is rejected for a command, a cancellation and an enrolment token."""
    viewer = await api.operator(Role.VIEWER)
    agent = await api.enrol()
    assert (await api.http.get("/v1/agents", headers=viewer.headers)).status_code == 200
    for path, body in (
        (f"/v1/agents/{agent.id}/commands", {"text": "ls"}),
        (f"/v1/commands/{uuid4()}/cancel", {}),
        ("/v1/enrolment-tokens", {}),
    ):
        assert (await api.http.post(path, json=body, headers=viewer.headers)).status_code == 403, path


@cases(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"text": ""}', 422),
        (b'{"text": "ls", "priority": 0}', 422),
        (b'{"text": "ls", "priority": 11}', 422),
        (b'{"text": "ls", "shell": true}', 422),
        (b'{"text": "a\\u0000b"}', 422),
        (b'{"text": "\\ud800"}', 400),
        (b"[]", 422),
        (b'{"text": "' + b"x" * 1024 * 1024 + b'"}', 413),
    ],
)
async def test_a_bad_command_is_refused_and_changes_nothing(api, agent, body, status):
    """An invalid command is rejected with the reason, and no row is written."""
    admin = await api.operator()
    response = await api.http.post(f"/v1/agents/{agent.id}/commands", content=body, headers=admin.headers)
    assert response.status_code == status
    assert response.json()["detail"]
    assert (await api.http.get("/v1/commands", headers=admin.headers)).json()["commands"] == []


async def test_history_is_paged_newest_first(api):
    """Pages of the history follow each other, newest first, without gap or repetition."""
    admin = await api.operator()
    agent = await api.enrol()
    for n in range(5):
        await api.http.post(f"/v1/agents/{agent.id}/commands", json={"text": f"echo {n}"}, headers=admin.headers)
    texts: list[str] = []
    before = ""
    while True:
        page = (await api.http.get(f"/v1/commands?limit=2{before}", headers=admin.headers)).json()
        texts += [command["text"] for command in page["commands"]]
        if page["next_before"] is None:
            break
        before = f"&before={page['next_before']}"
    assert texts == [f"echo {n}" for n in (4, 3, 2, 1, 0)]


async def test_a_queued_command_is_cancelled_at_once(api):
    """A queued command is cancelled at once and never reaches its agent, and a second cancellation is rejected."""
    admin = await api.operator()
    agent = await api.enrol()
    command = (
        await api.http.post(f"/v1/agents/{agent.id}/commands", json={"text": "ls"}, headers=admin.headers)
    ).json()
    cancelled = await api.http.post(f"/v1/commands/{command['id']}/cancel", json={}, headers=admin.headers)
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    again = await api.http.post(f"/v1/commands/{command['id']}/cancel", json={}, headers=admin.headers)
    assert (again.status_code, again.json()["state"]) == (409, "cancelled")


async def test_an_enrolment_token_works_once_for_names_that_fit(api):
    """A second use of an enrolment token, an invalid name and a name in use are rejected."""
    token = await api.enrolment_token("build-*")
    headers = {"Authorization": f"Bearer {token}"}
    enrol = {"name": "other", "kind": "shell"}
    assert (await api.http.post("/v1/agents/enrol", json=enrol, headers=headers)).status_code == 403
    enrol["name"] = "build-1"
    assert (await api.http.post("/v1/agents/enrol", json=enrol, headers=headers)).status_code == 201
    assert (await api.http.post("/v1/agents/enrol", json=enrol, headers=headers)).status_code == 401
    fresh = {"Authorization": f"Bearer {await api.enrolment_token('build-*')}"}
    assert (await api.http.post("/v1/agents/enrol", json=enrol, headers=fresh)).status_code == 409


async def test_a_refresh_token_seen_twice_revokes_its_family(api):
    """The reuse of a refresh token revokes its family, including the agent's newest token."""
    agent = await api.enrol()

    async def refresh(token: str):
        return await api.http.post("/v1/agents/token", headers={"Authorization": f"Bearer {token}"})

    second = (await refresh(agent.refresh_token)).json()["refresh_token"]
    third = (await refresh(second)).json()["refresh_token"]
    assert (await refresh(agent.refresh_token)).status_code == 401
    assert (await refresh(third)).status_code == 401


@cases(
    "path",
    [
        "/v1/device/authorization",
        "/v1/device/token",
        "/v1/agents/enrol",
        "/auth/v1/token?grant_type=password",
        "/auth/v1/logout",
        "/realtime/v1/api/broadcast",
    ],
)
async def test_a_page_of_another_site_is_turned_away_at_every_door(api, path):
    """A request or a preflight of another site is rejected at every endpoint, even without an operator's token; our own
    page is accepted."""
    foreign = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert (await api.http.post(path, headers=foreign)).status_code == 403
    assert (await api.http.options(path, headers=foreign)).status_code == 403
    assert (await api.http.post(path, headers={"Origin": "null"})).status_code == 403
    assert (await api.http.post(path, headers={"Origin": api.url})).status_code in (400, 401, 415)


async def test_a_page_of_another_site_cannot_follow_changes(api):
    """Realtime rejects the socket of another site, and accepts our own page and programs."""
    address = f"{api.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={await api.key()}&vsn=2.0.0"
    with pytest.raises(InvalidStatus) as refusal:
        await connect(address, origin="https://evil.example")  # type: ignore[arg-type]
    assert refusal.value.response.status_code == 403
    for origin in (api.url, None):
        async with connect(address, origin=origin):  # type: ignore[arg-type]
            pass


async def test_a_page_of_another_site_cannot_change_anything(api):
    """A request that changes state is rejected if its Origin is another site."""
    admin = await api.operator()
    headers = {**admin.headers, "Origin": "https://evil.example"}
    assert (await api.http.post("/v1/enrolment-tokens", json={}, headers=headers)).status_code == 403
    headers["Origin"] = api.url
    assert (await api.http.post("/v1/enrolment-tokens", json={}, headers=headers)).status_code == 201
