"""The built-in Supabase Auth, with the unmodified Python client over a real socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from supabase import AsyncClient, AsyncClientOptions
from supabase_auth.errors import AuthApiError, AuthRetryableError, AuthWeakPasswordError

EMAIL = "ann@example.org"
PASSWORD = "correct horse battery"
Connect = Callable[..., AsyncClient]


@pytest.fixture
async def client(project: Any) -> AsyncGenerator[Connect]:
    """Creates clients of the project, with the publishable key unless another is given."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=30))

        def connect(key: str = "") -> AsyncClient:
            options = AsyncClientOptions(persist_session=False, auto_refresh_token=False, httpx_client=http)
            return AsyncClient(project.url, key or project.key, options)

        yield connect


async def signed_in(project: Any, client: AsyncClient) -> Any:
    if not project.events:
        await project.operator(EMAIL)
    answer = await client.auth.sign_in_with_password({"email": EMAIL, "password": PASSWORD})
    assert answer.session is not None
    return answer.session


async def test_a_client_signs_in(project: Any, client: Connect) -> None:
    """A signed-in client reads the same user with get_user."""
    supabase = client()
    session = await signed_in(project, supabase)
    user = await supabase.auth.get_user()
    assert user is not None
    assert user.user.id == session.user.id
    assert user.user.email == EMAIL
    assert user.user.app_metadata["role"] == "admin"


async def test_a_wrong_password_has_its_code(project: Any, client: Connect) -> None:
    """The client's error has the code invalid_credentials and the message that pages show."""
    await project.operator(EMAIL)
    with pytest.raises(AuthApiError, match="Invalid login credentials") as caught:
        await client().auth.sign_in_with_password({"email": EMAIL, "password": "wrong"})
    assert (caught.value.code, caught.value.status) == ("invalid_credentials", 400)


async def test_a_client_refreshes(project: Any, client: Connect) -> None:
    """A refresh gives the client new tokens that work."""
    supabase = client()
    session = await signed_in(project, supabase)
    refreshed = await supabase.auth.refresh_session()
    assert refreshed.session is not None
    assert refreshed.session.refresh_token != session.refresh_token
    assert await supabase.auth.get_user() is not None


async def test_a_stolen_refresh_token_ends_the_session_for_both(project: Any, client: Connect) -> None:
    """A client that presents a token of long ago is rejected, and then the client with the current token, too."""
    supabase, thief = client(), client()
    session = await signed_in(project, supabase)
    await supabase.auth.refresh_session()
    await supabase.auth.refresh_session()
    await project.execute("update auth.sessions set refreshed_at = refreshed_at - interval '11 s'")
    with pytest.raises(AuthApiError) as caught:
        await thief.auth.refresh_session(session.refresh_token)
    assert caught.value.code == "refresh_token_already_used"
    with pytest.raises(AuthApiError) as caught:
        await supabase.auth.refresh_session()
    assert caught.value.code == "refresh_token_not_found"


async def test_claims_are_verified_with_the_published_keys(project: Any, client: Connect) -> None:
    """get_claims verifies the signature itself, without a request for the user."""
    supabase = client()
    session = await signed_in(project, supabase)
    await project.execute("delete from auth.sessions")
    answer = await supabase.auth.get_claims(session.access_token)
    assert answer is not None
    claims = answer["claims"]
    assert claims["sub"] == session.user.id
    assert claims["iss"] == f"{project.url}/auth/v1"
    assert claims["exp"] > time.time()


async def test_a_rotation_disturbs_no_client(project: Any, client: Connect) -> None:
    """A client that has cached the keys verifies tokens of the old key and of the new key."""
    supabase = client()
    session = await signed_in(project, supabase)
    await supabase.auth.get_claims(session.access_token)
    await project.execute("update auth.signing_keys set created_at = created_at - interval '1 day'")
    kid = await project.builtin.rotate_signing_key()
    await project.execute("update auth.signing_keys set created_at = created_at - interval '1 minute'")
    await project.builtin.reload_signing_keys()
    refreshed = await supabase.auth.refresh_session()
    assert refreshed.session is not None
    for token in (session.access_token, refreshed.session.access_token):
        answer = await supabase.auth.get_claims(token)
        assert answer is not None
        assert answer["claims"]["sub"] == session.user.id
    newest = await supabase.auth.get_claims(refreshed.session.access_token)
    assert newest is not None
    assert newest["headers"]["kid"] == kid


async def test_a_revoked_session_has_no_user(project: Any, client: Connect) -> None:
    """get_user fails for a revoked session although its access token has not expired."""
    supabase = client()
    session = await signed_in(project, supabase)
    await client().auth.admin.sign_out(session.access_token, "global")
    with pytest.raises(AuthApiError) as caught:
        await supabase.auth.get_user()
    assert caught.value.code == "session_not_found"


@pytest.mark.parametrize("scope", ["global", "local", "others"])
async def test_a_client_signs_out_by_scope(project: Any, client: Connect, scope: Any) -> None:
    """Only the sessions of the scope end."""
    mine, other = client(), client()
    first = await signed_in(project, mine)
    second = await signed_in(project, other)
    await mine.auth.sign_out({"scope": scope})
    reader = client()
    for session, alive in ((first, scope == "others"), (second, scope == "local")):
        if alive:
            assert await reader.auth.get_user(session.access_token) is not None
        else:
            with pytest.raises(AuthApiError) as caught:
                await reader.auth.get_user(session.access_token)
            assert caught.value.code == "session_not_found"


async def test_sign_up_is_disabled(client: Connect) -> None:
    """The client's sign_up fails with signup_disabled."""
    with pytest.raises(AuthApiError) as caught:
        await client().auth.sign_up({"email": EMAIL, "password": PASSWORD})
    assert (caught.value.code, caught.value.status) == ("signup_disabled", 422)


async def test_a_client_changes_its_password(project: Any, client: Connect) -> None:
    """A weak password is rejected with its reasons, and the new password signs in."""
    supabase = client()
    await signed_in(project, supabase)
    with pytest.raises(AuthWeakPasswordError) as caught:
        await supabase.auth.update_user({"password": "short"})
    assert caught.value.reasons == ["length"]
    await supabase.auth.update_user({"password": "another horse", "data": {"theme": "dark"}})
    answer = await client().auth.sign_in_with_password({"email": EMAIL, "password": "another horse"})
    assert answer.user is not None
    assert answer.user.user_metadata == {"theme": "dark"}


async def test_a_client_manages_users_with_the_secret_key(project: Any, client: Connect) -> None:
    """With the secret key users are created, read, listed, changed, banned and deleted; the publishable key may not."""
    admin = client(project.secret).auth.admin
    created = await admin.create_user(
        {"email": EMAIL, "password": PASSWORD, "email_confirm": True, "app_metadata": {"role": "viewer"}}
    )
    user_id = created.user.id
    assert (await admin.get_user_by_id(user_id)).user.email == EMAIL
    assert [user.id for user in await admin.list_users()] == [user_id]
    assert [user.id for user in await admin.list_users(page=2, per_page=1)] == []
    changed = await admin.update_user_by_id(user_id, {"app_metadata": {"role": "admin"}, "ban_duration": "1h"})
    assert changed.user.app_metadata["role"] == "admin"
    assert changed.user.banned_until is not None
    await admin.delete_user(user_id)
    assert await admin.list_users() == []
    with pytest.raises(AuthApiError) as caught:
        await client().auth.admin.list_users()
    assert (caught.value.code, caught.value.status) == ("not_admin", 403)


async def test_an_operator_has_no_second_factor(project: Any, client: Connect) -> None:
    """The client lists no factors, and enrolling one is rejected."""
    supabase = client()
    await signed_in(project, supabase)
    assert (await supabase.auth.mfa.list_factors()).all == []
    level = await supabase.auth.mfa.get_authenticator_assurance_level()
    assert (level.current_level, level.next_level) == ("aal1", "aal1")
    with pytest.raises(AuthApiError) as caught:
        await supabase.auth.mfa.enroll({"factor_type": "totp", "friendly_name": "phone", "issuer": "x"})
    assert caught.value.code == "mfa_totp_enroll_not_enabled"


async def test_an_unavailable_database_is_retryable(serve_project: Any, own_postgres: Any) -> None:
    """Without a database the client's error is retryable; once Postgres is back, the session continues."""
    async with serve_project(database_url=own_postgres.url()) as project, httpx.AsyncClient(timeout=30) as http:
        options = AsyncClientOptions(persist_session=False, auto_refresh_token=False, httpx_client=http)
        supabase = AsyncClient(project.url, project.key, options)
        await signed_in(project, supabase)
        await asyncio.to_thread(own_postgres.stop)
        with pytest.raises(AuthRetryableError):
            await supabase.auth.get_user()
        await asyncio.to_thread(own_postgres.start)
        assert await supabase.auth.get_user() is not None
        assert (await supabase.auth.refresh_session()).session is not None
