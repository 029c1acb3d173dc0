"""Common behaviour of all endpoints: keys, error bodies, CORS, limits and wrong bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cases import cases

if TYPE_CHECKING:
    from .conftest import Auth

ENDPOINTS = [
    ("POST", "/token?grant_type=password"),
    ("GET", "/user"),
    ("PUT", "/user"),
    ("POST", "/logout"),
    ("POST", "/signup"),
    ("GET", "/settings"),
    ("POST", "/factors"),
    ("GET", "/admin/users"),
    ("POST", "/admin/users"),
    ("GET", "/admin/users/00000000-0000-0000-0000-000000000000"),
    ("PUT", "/admin/users/00000000-0000-0000-0000-000000000000"),
    ("DELETE", "/admin/users/00000000-0000-0000-0000-000000000000"),
]


@cases(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize("key", ["", "sb_publishable_wrong", "sb_secret_wrong"])
async def test_no_endpoint_answers_without_a_key(auth: Auth, method: str, path: str, key: str) -> None:
    """A request without a valid key gets the gateway's 401 before its body is read."""
    response = await auth.http.request(method, path, headers={"apikey": key})
    assert response.status_code == 401
    assert response.json()["message"] == ("Invalid API key" if key else "No API key found in request")


@pytest.mark.parametrize("path", ["/.well-known/jwks.json", "/health"])
async def test_the_jwks_and_the_health_check_need_no_key(auth: Auth, path: str) -> None:
    """Verifiers and monitors get the JWKS and the health without a key."""
    response = await auth.http.get(path, headers={"apikey": ""})
    assert response.status_code == 200


async def test_the_jwks_may_be_cached_for_ten_minutes(auth: Auth) -> None:
    """The JWKS may be cached for ten minutes, as long as the clients cache it."""
    response = await auth.http.get("/.well-known/jwks.json")
    assert response.headers["Cache-Control"] == "public, max-age=600"
    assert len(response.json()["keys"]) == 1


@pytest.mark.parametrize("version", ["2024-01-01", "2026-06-01"])
async def test_a_client_that_names_a_version_gets_the_new_error_body(auth: Auth, version: str) -> None:
    """For an API version of 2024 or later, `code` is the error code and the version is echoed."""
    response = await auth.http.get("/user", headers={"X-Supabase-Api-Version": version})
    assert response.json() == {
        "code": "no_authorization",
        "message": "This endpoint requires a valid Bearer token",
    }
    assert response.headers["X-Supabase-Api-Version"] == "2024-01-01"
    assert response.headers["x-sb-error-code"] == "no_authorization"


@pytest.mark.parametrize("version", ["", "2023-12-31", "newest"])
async def test_other_clients_get_the_old_error_body(auth: Auth, version: str) -> None:
    """Without an API version of 2024 or later, `code` is the status."""
    response = await auth.http.get("/user", headers={"X-Supabase-Api-Version": version})
    assert response.json() == {
        "code": 401,
        "error_code": "no_authorization",
        "msg": "This endpoint requires a valid Bearer token",
    }
    assert "X-Supabase-Api-Version" not in response.headers
    assert response.headers["x-sb-error-code"] == "no_authorization"


async def test_a_page_of_any_origin_may_call(auth: Auth) -> None:
    """The preflight allows the headers that supabase-js sends, and a page can read an error, too."""
    requested = "apikey,authorization,content-type,x-client-info,x-supabase-api-version,traceparent"
    preflight = await auth.http.options(
        "/token",
        headers={
            "Origin": "https://page.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": requested,
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
    assert set(requested.split(",")) <= set(allowed)
    rejected = await auth.http.get("/user", headers={"Origin": "https://page.example"})
    assert rejected.headers["Access-Control-Allow-Origin"] == "*"
    assert "x-sb-error-code" in rejected.headers["Access-Control-Expose-Headers"].lower()


async def test_no_response_may_be_stored(auth: Auth) -> None:
    """No cache may store a session or an error."""
    await auth.create()
    assert (await auth.sign_in()).headers["Cache-Control"] == "no-store"
    assert (await auth.sign_in(password="x")).headers["Cache-Control"] == "no-store"


@cases(
    ("body", "expected"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"\xff", "bad_json"),
        (b"[" * 60_000, "validation_failed"),
        (b'{"email": "a@b.c", "password": "\\ud800"}', "bad_json"),
        (b"[]", "validation_failed"),
        (b'{"email": 1}', "validation_failed"),
        (b'{"email": null, "password": "x"}', "validation_failed"),
        (b'{"email": "", "password": "x"}', "validation_failed"),
        (b'{"email": "\\u0000@b.c", "password": "x"}', "validation_failed"),
    ],
)
async def test_a_wrong_body_is_rejected(auth: Auth, body: bytes, expected: str) -> None:
    """A wrong body gets a 400 with a code and never a 5xx, which the clients would retry."""
    response = await auth.http.post("/token?grant_type=password", content=body)
    assert (response.status_code, response.json()["code"]) == (400, expected)


async def test_a_large_body_is_rejected(auth: Auth) -> None:
    """A body above the limit is rejected before it is read to its end."""
    sent = 0

    async def chunks() -> Any:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 10_000

    response = await auth.http.post("/token?grant_type=password", content=chunks())
    assert (response.status_code, response.json()["code"]) == (413, "request_entity_too_large")


@pytest.mark.parametrize("grant", ["", "?grant_type=", "?grant_type=nonsense"])
async def test_an_unknown_grant_is_rejected(auth: Auth, grant: str) -> None:
    """A grant that Supabase Auth does not know is rejected, whatever the body."""
    response = await auth.http.post(f"/token{grant}", json={})
    assert (response.status_code, response.json()["message"]) == (400, "unsupported_grant_type")


async def test_missing_features_are_rejected_with_supabase_s_codes(auth: Auth) -> None:
    """Phones, external providers, second factors and unknown paths get the real service's codes."""
    await auth.create()
    headers = {"Authorization": f"Bearer {(await auth.session())['access_token']}"}
    phone = await auth.http.post("/token?grant_type=password", json={"phone": "1", "password": "x"})
    assert (phone.status_code, phone.json()["code"]) == (422, "phone_provider_disabled")
    factor = await auth.http.post("/factors", json={"factor_type": "totp"}, headers=headers)
    assert (factor.status_code, factor.json()["code"]) == (422, "mfa_totp_enroll_not_enabled")
    provider = await auth.http.get("/authorize?provider=github", headers={"apikey": ""})
    assert (provider.status_code, provider.json()["code"]) == (400, "validation_failed")
    assert provider.json()["message"].startswith("Unsupported provider: ")
    assert (await auth.http.post("/nowhere", json={})).json()["code"] == "not_found"
    wrong_method = await auth.http.get("/token")
    assert wrong_method.status_code == 405
    assert wrong_method.headers["Allow"] == "POST"


async def test_an_unavailable_database_is_a_503(auth: Auth) -> None:
    """Without a database, requests get a 503, upon which supabase-js retries and keeps its session."""
    await auth.create()
    session = await auth.session()
    await auth.pool.close()
    for response in (await auth.refresh(session["refresh_token"]), await auth.user(session["access_token"])):
        assert (response.status_code, response.json()["code"]) == (503, "unexpected_failure")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
emails = st.sampled_from(["ann@example.org", "x" * 300 + "@y"]) | json_values
metadata = st.dictionaries(st.text(max_size=5), json_values, max_size=3) | json_values
bodies = st.fixed_dictionaries(
    {},
    optional={
        "id": st.uuids().map(str) | json_values,
        "email": emails,
        "password": st.just("correct horse battery") | json_values,
        "phone": json_values,
        "data": metadata,
        "app_metadata": metadata,
        "user_metadata": metadata,
        "ban_duration": st.from_regex(r"[0-9]{1,9}[hms]", fullmatch=True) | json_values,
        "email_confirm": json_values,
        "refresh_token": json_values,
    },
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies, endpoint=st.sampled_from(ENDPOINTS))
async def test_no_body_causes_a_5xx(auth: Auth, body: dict[str, Any], endpoint: tuple[str, str]) -> None:
    """Every endpoint answers any JSON without a 5xx, and returns a created user unchanged."""
    method, path = endpoint
    response = await auth.http.request(method, path, json=body, headers=auth.admin)
    assert response.status_code < 500
    if response.status_code == 200 and path == "/admin/users" and method == "POST":
        one = f"/admin/users/{response.json()['id']}"
        assert (await auth.http.get(one, headers=auth.admin)).json() == response.json()
        assert (await auth.http.request("DELETE", one, headers=auth.admin)).status_code == 200


@pytest.mark.parametrize("value", ["1180591620717411303424", "1e20", "1e308", "[" * 40 + "]" * 40, '"\\u0000"'])
async def test_metadata_that_cannot_be_returned_is_rejected(auth: Auth, value: str) -> None:
    """Numbers beyond 64 bits, deep nesting and text that Postgres cannot store are rejected."""
    body = f'{{"email": "ann@example.org", "password": "correct horse", "user_metadata": {{"a": {value}}}}}'
    response = await auth.http.post("/admin/users", content=body, headers=auth.admin)
    assert (response.status_code, response.json()["code"]) == (400, "validation_failed")
