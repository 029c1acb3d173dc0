"""Endpoints of Supabase Auth that are not offered here answer as a project that has them switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.cases import cases

from onsembl.realtime.auth.unavailable import EMPTY, UNAVAILABLE, Unavailable

from .conftest import bearer, code

if TYPE_CHECKING:
    from .conftest import Auth

SOME_ID = "00000000-0000-0000-0000-000000000000"


def filled(path: str) -> str:
    """The path with an id in each of its parameters."""
    for name in ("factor_id", "identity_id", "user_id", "provider_id"):
        path = path.replace(f"{{{name}}}", SOME_ID)
    return path


@cases(("one", "method"), [(one, method) for one in UNAVAILABLE for method in one.methods])
async def test_an_endpoint_that_is_not_offered(auth: Auth, one: Unavailable, method: str) -> None:
    """It has the code of the real service for a caller who may call it; key and caller are checked first."""
    path = filled(one.path)
    if (await auth.sign_in()).status_code != 200:
        await auth.create()
    headers = {"anyone": {}, "user": bearer((await auth.session())["access_token"]), "admin": auth.admin}[one.caller]
    status, name, message = one.error
    answer = await auth.http.request(method, path, json={}, headers=headers)
    assert code(answer) == (status, name)
    assert answer.json()["message"] == message
    if one.needs_key:
        assert (await auth.http.request(method, path, json={}, headers={**headers, "apikey": ""})).status_code == 401
    if one.caller != "anyone":
        assert code(await auth.http.request(method, path, json={})) in [(401, "no_authorization"), (403, "not_admin")]


@cases(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/otp", {"email": "ann@example.org"}, (422, "otp_disabled")),
        ("POST", "/recover", {"email": "ann@example.org"}, (400, "email_provider_disabled")),
        ("POST", "/verify", {"type": "magiclink", "token": "1"}, (403, "otp_expired")),
        ("POST", "/sso", {"domain": "example.org"}, (404, "saml_provider_disabled")),
        ("POST", "/token?grant_type=pkce", {"auth_code": "x"}, (404, "flow_state_not_found")),
        ("POST", "/token?grant_type=id_token", {"id_token": "x"}, (400, "provider_disabled")),
        ("POST", "/token?grant_type=web3", {"message": "x"}, (422, "web3_provider_disabled")),
        ("POST", "/factors", {"factor_type": "totp"}, (422, "mfa_totp_enroll_not_enabled")),
        ("POST", "/factors", {"factor_type": "phone"}, (422, "mfa_phone_enroll_not_enabled")),
        ("POST", "/factors", {"factor_type": "webauthn"}, (422, "mfa_webauthn_enroll_not_enabled")),
        ("POST", "/factors", {"factor_type": "smoke signal"}, (400, "validation_failed")),
        ("POST", "/factors", {}, (400, "validation_failed")),
        ("POST", f"/factors/{SOME_ID}/verify", {"code": "1"}, (404, "mfa_factor_not_found")),
        ("GET", "/user/identities/authorize?provider=github", None, (404, "manual_linking_disabled")),
        ("POST", "/nowhere", {}, (404, "not_found")),
    ],
)
async def test_codes_that_the_clients_know(auth: Auth, method: str, path: str, body: object, expected: object) -> None:
    """Mail, codes, providers and second factors get the codes on which the real service's clients decide."""
    if (await auth.sign_in()).status_code != 200:
        await auth.create()
    headers = bearer((await auth.session())["access_token"])
    assert code(await auth.http.request(method, path, json=body, headers=headers)) == expected


@cases(("path", "content"), EMPTY)
async def test_lists_of_admins_are_empty(auth: Auth, path: str, content: object) -> None:
    """Lists of what is not offered are empty, for the secret key alone."""
    assert (await auth.http.get(filled(path), headers=auth.admin)).json() == content
    assert (await auth.http.get(filled(path))).status_code in (401, 403)
