"""Sign-in, refresh, the user of a token, and sign-out, over HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import jwt
import pytest
from argon2 import PasswordHasher

from onsembl.realtime.auth.passwords import Passwords
from onsembl.realtime.auth.refresh_tokens import RefreshToken
from onsembl.realtime.auth.settings import AuthSettings

if TYPE_CHECKING:
    from .conftest import Auth

EMAIL = "ann@example.org"
PASSWORD = "correct horse battery"


def code(response: object) -> tuple[int, str]:
    assert response.headers["x-sb-error-code"] == response.json()["code"]  # type: ignore[attr-defined]
    return response.status_code, response.json()["code"]  # type: ignore[attr-defined]


async def test_the_right_password_gives_a_session(auth: Auth) -> None:
    """The response has the tokens and the user, and the access token has Supabase's claims."""
    user = await auth.create(app_metadata={"role": "viewer"})
    before = int(time.time())
    session = await auth.session()
    assert session["token_type"] == "bearer"
    assert session["expires_in"] == 3600
    assert session["expires_at"] >= before + 3600
    claims = jwt.decode(session["access_token"], options={"verify_signature": False})
    assert claims["sub"] == session["user"]["id"] == user["id"]
    assert claims["iss"] == "http://project.test/auth/v1"
    assert claims["aud"] == claims["role"] == "authenticated"
    assert claims["app_metadata"] == {"provider": "email", "providers": ["email"], "role": "viewer"}
    assert claims["amr"][0]["method"] == "password"
    assert claims["aal"] == "aal1"
    assert {"email", "phone", "user_metadata", "session_id", "is_anonymous", "iat", "exp"} <= set(claims)
    assert session["user"]["last_sign_in_at"] is not None
    assert session["user"]["identities"][0]["identity_data"]["email_verified"] is True


async def test_an_address_is_known_in_any_case(auth: Auth) -> None:
    """Email addresses are compared without case and stored in lower case."""
    user = await auth.create("Ann@Example.org")
    assert user["email"] == EMAIL
    assert (await auth.session("ANN@example.ORG"))["user"]["id"] == user["id"]


@pytest.mark.parametrize(("email", "password"), [(EMAIL, "wrong horse"), ("bob@example.org", PASSWORD), (EMAIL, "")])
async def test_a_wrong_password_and_an_unknown_address_look_alike(auth: Auth, email: str, password: str) -> None:
    """The response does not tell whether the user exists, and the audit log has the failure without the password."""
    await auth.create()
    response = await auth.sign_in(email, password)
    assert code(response) == (400, "invalid_credentials")
    assert response.json()["message"] == "Invalid login credentials"
    (event,) = auth.events
    assert (event.action, event.outcome, event.email, event.address) == ("sign_in", "refused", email, "192.0.2.1")
    assert password == "" or password not in repr(event)


async def test_only_the_right_password_tells_that_an_operator_is_disabled(auth: Auth) -> None:
    """A disabled operator gets user_banned for the right password and invalid_credentials for a wrong one."""
    await auth.create(ban_duration="24h")
    assert code(await auth.sign_in()) == (400, "user_banned")
    assert code(await auth.sign_in(password="wrong horse")) == (400, "invalid_credentials")


async def test_an_unconfirmed_address_is_rejected(auth: Auth) -> None:
    """A user signs in only after an admin has confirmed the email address."""
    await auth.create(email_confirm=False)
    assert code(await auth.sign_in()) == (400, "email_not_confirmed")


async def test_too_many_failures_make_the_address_wait(auth: Auth) -> None:
    """After ten failures from an address even the right password is rejected, and the audit log has that once."""
    await auth.create()
    for number in range(10):
        assert code(await auth.sign_in(f"user{number}@example.org")) == (400, "invalid_credentials")
    response = await auth.sign_in()
    assert code(response) == (429, "over_request_rate_limit")
    assert 0 < int(response.headers["Retry-After"]) <= 31
    await auth.sign_in()
    assert [event.reason for event in auth.events].count("too many attempts") == 1


async def test_parallel_failures_count(auth: Auth) -> None:
    """Thirty guesses at once are counted, and ten of them are compared."""
    await auth.create()
    answers = await asyncio.gather(*(auth.sign_in(password=f"guess {number}") for number in range(30)))
    assert sum(answer.status_code == 400 for answer in answers) == 10


async def test_successful_sign_ins_are_not_limited(auth: Auth) -> None:
    """Sign-ins with the right password do not count as failures."""
    await auth.create()
    for _ in range(15):
        assert (await auth.sign_in()).status_code == 200


async def test_a_hash_of_other_parameters_is_replaced_at_sign_in(auth: Auth) -> None:
    """A sign-in replaces a hash of other parameters, and the user's sessions stay."""
    await auth.create()
    first = await auth.session()
    auth.sessions.passwords = Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    await auth.session()
    async with auth.pool.connection() as conn:
        cursor = await conn.execute("select encrypted_password from auth.users")
        row = await cursor.fetchone()
    assert row is not None
    assert row["encrypted_password"].startswith("$argon2id$v=19$m=16,t=2,")
    assert (await auth.user(first["access_token"])).status_code == 200
    assert (await auth.sign_in()).status_code == 200
    auth.sessions.passwords.close()


async def test_a_refresh_gives_new_tokens_of_the_same_session(auth: Auth) -> None:
    """A refresh gives another refresh token and an access token of the same session."""
    await auth.create()
    session = await auth.session()
    refreshed = (await auth.refresh(session["refresh_token"])).json()
    assert refreshed["refresh_token"] != session["refresh_token"]
    ids = [
        jwt.decode(answer["access_token"], options={"verify_signature": False})["session_id"]
        for answer in (session, refreshed)
    ]
    assert ids[0] == ids[1]
    assert refreshed["user"]["email"] == EMAIL


async def later(auth: Auth, seconds: float) -> None:
    await auth.execute("update auth.sessions set refreshed_at = refreshed_at - make_interval(secs => %s)", seconds)


async def test_the_parent_of_the_current_token_gets_the_current_one(auth: Auth) -> None:
    """A client that missed the response gets the current token for its parent, even after an hour."""
    await auth.create()
    first = (await auth.session())["refresh_token"]
    second = (await auth.refresh(first)).json()["refresh_token"]
    await later(auth, 3600)
    assert (await auth.refresh(first)).json()["refresh_token"] == second
    assert (await auth.refresh(second)).status_code == 200


async def test_a_token_used_long_ago_ends_the_session(auth: Auth) -> None:
    """A token that was used long ago ends the session with all of its refresh and access tokens."""
    await auth.create()
    session = await auth.session()
    other = await auth.session()
    second = (await auth.refresh(session["refresh_token"])).json()["refresh_token"]
    third = (await auth.refresh(second)).json()
    await later(auth, 11)
    response = await auth.refresh(session["refresh_token"])
    assert code(response) == (400, "refresh_token_already_used")
    assert response.json()["message"] == "Invalid Refresh Token: Already Used"
    assert auth.events[-1].outcome == "refused"
    assert auth.events[-1].action == "refresh"
    assert code(await auth.refresh(third["refresh_token"])) == (400, "refresh_token_not_found")
    assert code(await auth.user(third["access_token"])) == (403, "session_not_found")
    assert (await auth.user(other["access_token"])).status_code == 200


async def test_tabs_that_refresh_at_once_end_with_the_same_token(auth: Auth) -> None:
    """Ten refreshes of one token at once all succeed and give the same token."""
    await auth.create()
    first = (await auth.session())["refresh_token"]
    answers = await asyncio.gather(*(auth.refresh(first) for _ in range(10)))
    assert [answer.status_code for answer in answers] == [200] * 10
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1


async def test_an_invalid_refresh_token_is_not_found(auth: Auth) -> None:
    """Text, another server's token and the token of a deleted session are not found."""
    await auth.create()
    foreign = RefreshToken(uuid4(), 0).text(b"another secret, of another project")
    gone = RefreshToken(uuid4(), 0).text(auth.sessions.refresh_secret)
    for token in ("x", "é", foreign, gone):
        response = await auth.refresh(token)
        assert code(response) == (400, "refresh_token_not_found")
        assert response.json()["message"] == "Invalid Refresh Token: Refresh Token Not Found"


async def test_a_token_ahead_of_the_database_ends_nothing(auth: Auth) -> None:
    """A token newer than the database, as after a restore, is rejected, and its session stays."""
    await auth.create()
    session = await auth.session()
    token = RefreshToken.parse(session["refresh_token"], auth.sessions.refresh_secret)
    assert token is not None
    ahead = RefreshToken(token.session_id, 7).text(auth.sessions.refresh_secret)
    assert code(await auth.refresh(ahead)) == (400, "validation_failed")
    assert (await auth.refresh(session["refresh_token"])).status_code == 200


async def test_a_session_ends_at_its_end_and_after_inactivity(auth: Auth) -> None:
    """A session ends at `not_after` or after thirty days without a refresh, and the next sign-in deletes it."""
    await auth.create()
    for change in ("not_after = now()", "refreshed_at = now() - interval '30 days'"):
        token = (await auth.session())["refresh_token"]
        await auth.execute(f"update auth.sessions set {change}")
        assert code(await auth.refresh(token)) == (400, "session_expired")
    await auth.session()
    async with auth.pool.connection() as conn:
        cursor = await conn.execute("select count(*) as sessions from auth.sessions")
        assert await cursor.fetchone() == {"sessions": 1}


async def test_a_disabled_operator_s_tokens_are_rejected(auth: Auth) -> None:
    """Neither the refresh token nor the access token of a disabled operator is accepted."""
    user = await auth.create()
    session = await auth.session()
    await auth.http.put(f"/admin/users/{user['id']}", json={"ban_duration": "876000h"}, headers=auth.admin)
    assert code(await auth.refresh(session["refresh_token"])) == (400, "user_banned")
    assert code(await auth.user(session["access_token"])) == (403, "user_banned")


async def test_the_user_is_read_with_an_access_token(auth: Auth) -> None:
    """No token, an invalid one, an expired one and a key in its place each get an error of their own."""
    await auth.create()
    session = await auth.session()
    assert (await auth.user(session["access_token"])).json()["email"] == EMAIL
    assert code(await auth.http.get("/user")) == (401, "no_authorization")
    assert code(await auth.user("nonsense")) == (403, "bad_jwt")
    assert code(await auth.user(auth.keys.publishable)) == (403, "bad_jwt")
    auth.sessions.tokens.lifetime = -1
    expired = (await auth.session())["access_token"]
    response = await auth.user(expired)
    assert code(response) == (403, "bad_jwt")
    assert "expired" in response.json()["message"]


async def test_a_deleted_user_is_not_found(auth: Auth) -> None:
    """The token of a deleted user gets a 403 user_not_found, upon which supabase-js forgets the session."""
    user = await auth.create()
    session = await auth.session()
    await auth.http.request("DELETE", f"/admin/users/{user['id']}", headers=auth.admin)
    assert code(await auth.user(session["access_token"])) == (403, "user_not_found")


@pytest.mark.parametrize(
    ("scope", "mine", "other"), [("global", 403, 403), ("", 403, 403), ("local", 403, 200), ("others", 200, 403)]
)
async def test_signing_out_ends_the_sessions_of_its_scope(auth: Auth, scope: str, mine: int, other: int) -> None:
    """A sign-out ends this session, the other sessions or all, and never another user's."""
    await auth.create()
    await auth.create("bob@example.org")
    sessions = [await auth.session(), await auth.session(), await auth.session("bob@example.org")]
    headers = {"Authorization": f"Bearer {sessions[0]['access_token']}"}
    response = await auth.http.post("/logout", params={"scope": scope} if scope else {}, headers=headers)
    assert response.status_code == 204
    answers = [await auth.user(session["access_token"]) for session in sessions]
    assert [answer.status_code for answer in answers] == [mine, other, 200]
    refreshes = [await auth.refresh(session["refresh_token"]) for session in sessions]
    assert [answer.status_code for answer in refreshes] == [200 if s == 200 else 400 for s in (mine, other, 200)]
    assert [event.action for event in auth.events if event.action != "refresh"][-1] == "sign_out"


async def test_an_unknown_scope_is_rejected(auth: Auth) -> None:
    """A sign-out with an unknown scope is rejected and ends no session."""
    await auth.create()
    token = (await auth.session())["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert code(await auth.http.post("/logout?scope=all", headers=headers)) == (400, "validation_failed")
    assert (await auth.user(token)).status_code == 200


async def test_a_new_password_ends_the_other_sessions(auth: Auth) -> None:
    """A changed password ends the user's other sessions and replaces the old password; the audit log has it."""
    await auth.create()
    mine, other = await auth.session(), await auth.session()
    headers = {"Authorization": f"Bearer {mine['access_token']}"}
    response = await auth.http.put("/user", json={"password": "another horse"}, headers=headers)
    assert response.status_code == 200
    assert (await auth.user(mine["access_token"])).status_code == 200
    assert (await auth.user(other["access_token"])).status_code == 403
    assert auth.events[-1].action == "password_changed"
    assert (await auth.sign_in()).status_code == 400
    assert (await auth.sign_in(password="another horse")).status_code == 200


async def test_a_weak_or_unchanged_password_is_rejected(auth: Auth) -> None:
    """A weak, an unchanged and a too long password are rejected with Supabase's codes."""
    await auth.create()
    headers = {"Authorization": f"Bearer {(await auth.session())['access_token']}"}
    weak = await auth.http.put("/user", json={"password": "short"}, headers=headers)
    assert code(weak) == (422, "weak_password")
    assert weak.json()["weak_password"] == {"reasons": ["length"]}
    same = await auth.http.put("/user", json={"password": PASSWORD}, headers=headers)
    assert code(same) == (422, "same_password")
    long = await auth.http.put("/user", json={"password": "x" * 2000}, headers=headers)
    assert code(long) == (400, "validation_failed")


async def test_a_user_changes_only_metadata_without_rights(auth: Auth) -> None:
    """A user's `data` is merged and a null removes a member; `app_metadata` and the email address stay."""
    await auth.create(user_metadata={"theme": "dark", "name": "Ann"}, app_metadata={"role": "viewer"})
    headers = {"Authorization": f"Bearer {(await auth.session())['access_token']}"}
    changed = await auth.http.put("/user", json={"data": {"theme": None, "language": "de"}}, headers=headers)
    assert changed.json()["user_metadata"] == {"name": "Ann", "language": "de"}
    rejected = await auth.http.put("/user", json={"app_metadata": {"role": "admin"}}, headers=headers)
    assert code(rejected) == (403, "not_admin")
    assert (await auth.http.put("/user", json={"email": "eve@example.org"}, headers=headers)).status_code == 422
    user = (await auth.http.get("/user", headers=headers)).json()
    assert user["app_metadata"]["role"] == "viewer"
    assert user["email"] == EMAIL


async def test_sign_up_is_disabled(auth: Auth) -> None:
    """By default nobody signs up, and nobody signs in anonymously."""
    body = {"email": EMAIL, "password": PASSWORD}
    rejected = await auth.http.post("/signup", json=body)
    assert code(rejected) == (422, "signup_disabled")
    assert rejected.json()["message"] == "Signups not allowed for this instance"
    assert code(await auth.http.post("/signup", json={})) == (422, "anonymous_provider_disabled")
    assert (await auth.http.get("/settings")).json()["disable_signup"] is True


class TestWithSignUp:
    @pytest.fixture
    def auth_settings(self) -> AuthSettings:
        return AuthSettings(allow_signup=True)

    async def test_a_new_user_has_no_role(self, auth: Auth) -> None:
        """Where sign-up is allowed, a new user has no role whatever the request says, and an address signs up once."""
        body = {"email": EMAIL, "password": PASSWORD, "data": {"role": "admin"}, "app_metadata": {"role": "admin"}}
        session = (await auth.http.post("/signup", json=body)).json()
        assert session["user"]["app_metadata"] == {"provider": "email", "providers": ["email"]}
        assert (await auth.user(session["access_token"])).status_code == 200
        assert code(await auth.http.post("/signup", json=body)) == (422, "user_already_exists")
        assert code(await auth.http.post("/signup", json={**body, "password": "x"})) == (422, "weak_password")
