"""The built-in Supabase Auth, with the unmodified JavaScript client in a Node process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

EMAIL = "ann@example.org"
PASSWORD = "correct horse battery"

CLIENT = """
const connect = (key) => createClient(args.url, key ?? args.key, {
  auth: { persistSession: false, autoRefreshToken: false },
});
const described = (error) =>
  error && { code: error.code, status: error.status, name: error.name, message: error.message };
"""


@pytest.fixture
async def js(project: Any, node: Callable[[], Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Runs code with `connect()`, which creates a client of the project, and `described(error)`."""
    process = await node()

    async def run(code: str, **args: Any) -> Any:
        return await process.run(
            CLIENT + code, url=project.url, key=project.key, secret=project.secret, email=EMAIL, **args
        )

    return run


async def signed_in(project: Any, js: Any) -> Any:
    """Sign in a client, which is kept as `state.client`."""
    await project.operator(EMAIL)
    return await js(
        """
        state.client = connect();
        const { data, error } = await state.client.auth.signInWithPassword(
          { email: args.email, password: args.password });
        if (error) throw error;
        return data.session;
        """,
        password=PASSWORD,
    )


async def test_a_client_signs_in(project: Any, js: Any) -> None:
    """A signed-in client has the operator's session and reads the same user with getUser."""
    session = await signed_in(project, js)
    user = await js(
        "const { data, error } = await state.client.auth.getUser(); if (error) throw error; return data.user"
    )
    assert user["id"] == session["user"]["id"]
    assert user["app_metadata"]["role"] == "admin"
    assert session["expires_in"] == 3600


async def test_a_wrong_password_has_its_code(project: Any, js: Any) -> None:
    """The client's error has the code invalid_credentials and the message that the page shows."""
    await project.operator(EMAIL)
    error = await js(
        "return described((await connect().auth.signInWithPassword({ email: args.email, password: 'wrong' })).error)"
    )
    assert error == {
        "code": "invalid_credentials",
        "status": 400,
        "name": "AuthApiError",
        "message": "Invalid login credentials",
    }


async def test_a_client_refreshes(project: Any, js: Any) -> None:
    """A refresh gives the client new tokens that work."""
    session = await signed_in(project, js)
    refreshed = await js(
        """
        const { data, error } = await state.client.auth.refreshSession();
        if (error) throw error;
        const { error: asked } = await state.client.auth.getUser();
        if (asked) throw asked;
        return data.session;
        """
    )
    assert refreshed["refresh_token"] != session["refresh_token"]


async def test_a_stolen_refresh_token_ends_the_session_for_both(project: Any, js: Any) -> None:
    """A client that presents an old token is rejected; the other client cannot refresh and forgets its session."""
    session = await signed_in(project, js)
    await js("await state.client.auth.refreshSession(); await state.client.auth.refreshSession();")
    await project.execute("update auth.sessions set refreshed_at = refreshed_at - interval '11 s'")
    stolen = await js(
        "return described((await connect().auth.refreshSession({ refresh_token: args.token })).error)",
        token=session["refresh_token"],
    )
    assert stolen["code"] == "refresh_token_already_used"
    after = await js(
        """
        const { error } = await state.client.auth.refreshSession();
        await state.client.auth.getUser();
        return { error: described(error), session: (await state.client.auth.getSession()).data.session };
        """
    )
    assert after["error"]["code"] == "refresh_token_not_found"
    assert after["session"] is None


async def test_claims_are_verified_with_the_published_keys(project: Any, js: Any) -> None:
    """getClaims verifies the signature itself, so it works although the session is deleted."""
    session = await signed_in(project, js)
    await project.execute("delete from auth.sessions")
    data = await js("const { data, error } = await state.client.auth.getClaims(); if (error) throw error; return data")
    assert data["claims"]["sub"] == session["user"]["id"]
    assert data["claims"]["iss"] == f"{project.url}/auth/v1"
    assert data["header"]["alg"] == "ES256"
    forged = await js(
        "return described((await connect().auth.getClaims(args.token)).error)",
        token=session["access_token"][:-4] + "AAAA",
    )
    assert forged["name"] == "AuthInvalidJwtError"


async def test_a_rotation_disturbs_no_client(project: Any, js: Any) -> None:
    """A client that has cached the keys verifies tokens of the old key and of the new key."""
    session = await signed_in(project, js)
    await js("const { error } = await state.client.auth.getClaims(); if (error) throw error;")
    await project.execute("update auth.signing_keys set created_at = created_at - interval '1 day'")
    kid = await project.builtin.rotate_signing_key()
    await project.execute("update auth.signing_keys set created_at = created_at - interval '1 minute'")
    await project.builtin.reload_signing_keys()
    kids = await js(
        """
        await state.client.auth.refreshSession();
        const kids = [];
        for (const token of [args.token, undefined]) {
          const { data, error } = await state.client.auth.getClaims(token);
          if (error) throw error;
          kids.push(data.header.kid);
        }
        return kids;
        """,
        token=session["access_token"],
    )
    assert kids[1] == kid
    assert kids[0] != kid


async def test_a_revoked_session_has_no_user(project: Any, js: Any) -> None:
    """getUser fails for a revoked session, and the client forgets the session."""
    session = await signed_in(project, js)
    answer = await js(
        """
        await connect(args.secret).auth.admin.signOut(args.token, "global");
        const { error } = await state.client.auth.getUser();
        return { error: described(error), session: (await state.client.auth.getSession()).data.session };
        """,
        token=session["access_token"],
    )
    assert answer["error"]["name"] == "AuthSessionMissingError"
    assert answer["session"] is None


@pytest.mark.parametrize("scope", ["global", "local", "others"])
async def test_a_client_signs_out_by_scope(project: Any, js: Any, scope: str) -> None:
    """Only the sessions of the scope end."""
    first = await signed_in(project, js)
    second = await project.sign_in(EMAIL)
    alive = await js(
        """
        const { error } = await state.client.auth.signOut({ scope: args.scope });
        if (error) throw error;
        const users = await Promise.all(args.tokens.map((token) => connect().auth.getUser(token)));
        return users.map(({ error }) => error === null);
        """,
        scope=scope,
        tokens=[first["access_token"], second["access_token"]],
    )
    assert alive == [scope == "others", scope == "local"]


async def test_signing_out_twice_is_no_error(project: Any, js: Any) -> None:
    """A sign-out of a deleted session succeeds, and the client forgets the session."""
    await signed_in(project, js)
    await project.execute("delete from auth.sessions")
    assert await js("return described((await state.client.auth.signOut()).error)") is None


async def test_sign_up_is_disabled(js: Any) -> None:
    """signUp fails with signup_disabled, and there is no anonymous sign-in."""
    codes = await js(
        """
        const signUp = await connect().auth.signUp({ email: args.email, password: "correct horse" });
        const anonymous = await connect().auth.signInAnonymously();
        return [signUp.error.code, anonymous.error.code];
        """
    )
    assert codes == ["signup_disabled", "anonymous_provider_disabled"]


async def test_a_client_changes_its_password(project: Any, js: Any) -> None:
    """A weak password is rejected with its reasons, and the new password signs in."""
    await signed_in(project, js)
    answer = await js(
        """
        const weak = await state.client.auth.updateUser({ password: "short" });
        const { data, error } = await state.client.auth.updateUser(
          { password: "another horse", data: { theme: "dark" } });
        if (error) throw error;
        return { weak: weak.error.name, reasons: weak.error.reasons, theme: data.user.user_metadata.theme };
        """
    )
    assert answer == {"weak": "AuthWeakPasswordError", "reasons": ["length"], "theme": "dark"}
    await project.sign_in(EMAIL, "another horse")


async def test_a_client_manages_users_with_the_secret_key(js: Any) -> None:
    """With the secret key users are created, listed, changed, banned and deleted; the publishable key may not."""
    answer = await js(
        """
        const { admin } = connect(args.secret).auth;
        const ids = [];
        for (const name of ["a", "b", "c"]) {
          const { data, error } = await admin.createUser({ email: `${name}@example.org`, email_confirm: true });
          if (error) throw error;
          ids.push(data.user.id);
        }
        const { data: page } = await admin.listUsers({ page: 1, perPage: 2 });
        const changed = await admin.updateUserById(ids[0], { app_metadata: { role: "viewer" }, ban_duration: "1h" });
        const deleted = await admin.deleteUser(ids[1]);
        const missing = await admin.getUserById(ids[1]);
        const rejected = await connect().auth.admin.listUsers();
        return {
          page: { total: page.total, nextPage: page.nextPage, lastPage: page.lastPage, users: page.users.length },
          role: changed.data.user.app_metadata.role,
          banned: changed.data.user.banned_until !== undefined,
          deleted: described(deleted.error),
          missing: missing.error.code,
          rejected: rejected.error.code,
        };
        """
    )
    assert answer == {
        "page": {"total": 3, "nextPage": 2, "lastPage": 2, "users": 2},
        "role": "viewer",
        "banned": True,
        "deleted": None,
        "missing": "user_not_found",
        "rejected": "not_admin",
    }


async def test_an_operator_has_no_second_factor(project: Any, js: Any) -> None:
    """The client lists no factors, and enrolling one is rejected."""
    await signed_in(project, js)
    answer = await js(
        """
        const { mfa } = state.client.auth;
        const factors = await mfa.listFactors();
        const level = await mfa.getAuthenticatorAssuranceLevel();
        const enrolled = await mfa.enroll({ factorType: "totp" });
        return { all: factors.data.all, level: level.data.currentLevel, enroll: enrolled.error.code };
        """
    )
    assert answer == {"all": [], "level": "aal1", "enroll": "mfa_totp_enroll_not_enabled"}


async def test_a_page_of_another_origin_signs_in(project: Any) -> None:
    """The preflight of a page of another origin allows the client's headers."""
    asked = "apikey,authorization,content-type,x-client-info,x-supabase-api-version"
    preflight = await project.http.options(
        "/auth/v1/token?grant_type=password",
        headers={
            "Origin": "https://dashboard.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": asked,
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
