"""Users looked after with the secret key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from .conftest import Auth

EMAIL = "ann@example.org"
PASSWORD = "correct horse battery"


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


async def test_only_the_secret_key_may(auth: Auth) -> None:
    """Not the publishable key, not an operator of whatever role, not the secret key in one header with another's."""
    await auth.create(app_metadata={"role": "admin"})
    token = (await auth.session())["access_token"]
    publishable, secret = auth.keys.publishable, auth.keys.secret
    for headers, expected in (
        ({"apikey": publishable}, (403, "not_admin")),
        ({"apikey": publishable, "Authorization": f"Bearer {publishable}"}, (403, "not_admin")),
        ({"apikey": publishable, "Authorization": f"Bearer {token}"}, (403, "not_admin")),
        ({"apikey": secret, "Authorization": f"Bearer {token}"}, (403, "not_admin")),
        ({"apikey": publishable, "Authorization": f"Bearer {secret}"}, (403, "bad_jwt")),
    ):
        assert code(await auth.http.get("/admin/users", headers=headers)) == expected
    for headers in ({"apikey": secret}, {"apikey": secret, "Authorization": f"Bearer {secret}"}):
        assert (await auth.http.get("/admin/users", headers=headers)).status_code == 200


async def test_makes_a_user(auth: Auth) -> None:
    """With the attributes given, and the log is told that the key did it."""
    user_id = str(uuid4())
    response = await auth.http.post(
        "/admin/users",
        json={
            "id": user_id,
            "email": EMAIL,
            "password": PASSWORD,
            "email_confirm": True,
            "app_metadata": {"role": "viewer"},
            "user_metadata": {"name": "Ann"},
        },
        headers=auth.admin,
    )
    user = response.json()
    assert user["id"] == user_id
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"], "role": "viewer"}
    assert user["user_metadata"] == {"name": "Ann"}
    assert user["email_confirmed_at"] is not None
    assert "encrypted_password" not in response.text
    assert "argon2" not in response.text
    assert [(event.action, event.by_admin) for event in auth.events] == [("user_created", True)]


async def test_a_user_without_a_password_cannot_sign_in(auth: Auth) -> None:
    """Until one is set."""
    user = await auth.create(password=None)
    assert (await auth.sign_in(password="")).status_code == 400
    await auth.http.put(f"/admin/users/{user['id']}", json={"password": PASSWORD}, headers=auth.admin)
    assert (await auth.sign_in()).status_code == 200


async def test_an_address_is_taken_once(auth: Auth) -> None:
    """In any case, at creation and at change."""
    await auth.create()
    taken = await auth.http.post("/admin/users", json={"email": "ANN@example.org"}, headers=auth.admin)
    assert code(taken) == (422, "email_exists")
    other = await auth.create("bob@example.org")
    taken = await auth.http.put(f"/admin/users/{other['id']}", json={"email": "Ann@example.org"}, headers=auth.admin)
    assert code(taken) == (422, "email_exists")


@pytest.mark.parametrize("email", ["ann", "ann@", "@example.org", "a b@example.org", "a@b@c", "x" * 65 + "@y"])
async def test_what_is_no_address_is_refused(auth: Auth, email: str) -> None:
    """With Supabase's text."""
    response = await auth.http.post("/admin/users", json={"email": email}, headers=auth.admin)
    assert code(response) == (400, "validation_failed")
    assert response.json()["message"] == "Unable to validate email address: invalid format"


async def test_changes_a_user(auth: Auth) -> None:
    """Metadata is merged, a null removes; a new password ends every session."""
    user = await auth.create(app_metadata={"role": "viewer", "team": "a"}, email_confirm=False)
    path = f"/admin/users/{user['id']}"
    changed = await auth.http.put(
        path,
        json={"app_metadata": {"role": "admin", "team": None}, "email_confirm": True, "email": "Eve@example.org"},
        headers=auth.admin,
    )
    assert changed.json()["app_metadata"] == {"provider": "email", "providers": ["email"], "role": "admin"}
    assert changed.json()["email"] == "eve@example.org"
    session = await auth.session("eve@example.org")
    await auth.http.put(path, json={"password": "another horse"}, headers=auth.admin)
    assert (await auth.user(session["access_token"])).status_code == 403
    assert (await auth.refresh(session["refresh_token"])).status_code == 400


@pytest.mark.parametrize(
    ("duration", "seconds"), [("24h", 86400), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400), ("876000h", 3153600000)]
)
async def test_disables_for_a_time(auth: Auth, duration: str, seconds: int) -> None:
    """In Go's notation; `none` lifts it."""
    user = await auth.create()
    path = f"/admin/users/{user['id']}"
    changed = (await auth.http.put(path, json={"ban_duration": duration}, headers=auth.admin)).json()
    until = datetime.fromisoformat(changed["banned_until"])
    assert abs(until - datetime.now(UTC) - timedelta(seconds=seconds)) < timedelta(minutes=1)
    lifted = (await auth.http.put(path, json={"ban_duration": "none"}, headers=auth.admin)).json()
    assert "banned_until" not in lifted
    assert (await auth.sign_in()).status_code == 200


@pytest.mark.parametrize("duration", ["24", "h", "-1h", "1d", "24h ", "1e9h"])
async def test_what_is_no_duration_is_refused(auth: Auth, duration: str) -> None:
    """And nothing is changed."""
    user = await auth.create()
    path = f"/admin/users/{user['id']}"
    body = {"ban_duration": duration, "user_metadata": {"a": 1}}
    assert code(await auth.http.put(path, json=body, headers=auth.admin)) == (400, "validation_failed")
    assert (await auth.http.get(path, headers=auth.admin)).json()["user_metadata"] == {}


async def test_a_database_role_cannot_be_given(auth: Auth) -> None:
    """No user ever carries `service_role`."""
    response = await auth.http.post("/admin/users", json={"email": EMAIL, "role": "service_role"}, headers=auth.admin)
    assert code(response) == (422, "validation_failed")


async def test_lists_users_by_pages(auth: Auth) -> None:
    """Newest first, with the headers that the clients read the number of pages from."""
    for number in range(5):
        await auth.create(f"user{number}@example.org")
    response = await auth.http.get("/admin/users?page=2&per_page=2", headers=auth.admin)
    assert [user["email"] for user in response.json()["users"]] == ["user2@example.org", "user1@example.org"]
    assert response.headers["X-Total-Count"] == "5"
    assert response.headers["Link"] == (
        '</admin/users?page=3&per_page=2>; rel="next", </admin/users?page=3&per_page=2>; rel="last"'
    )
    last = await auth.http.get("/admin/users?page=3&per_page=2", headers=auth.admin)
    assert len(last.json()["users"]) == 1
    assert 'rel="next"' not in last.headers["Link"]
    assert len((await auth.http.get("/admin/users?page=&per_page=", headers=auth.admin)).json()["users"]) == 5
    for query in ("page=x", "page=-1", "per_page=1e3"):
        assert code(await auth.http.get(f"/admin/users?{query}", headers=auth.admin)) == (400, "validation_failed")


async def test_removes_a_user(auth: Auth) -> None:
    """And says so once; a soft deletion removes too."""
    user = await auth.create()
    path = f"/admin/users/{user['id']}"
    response = await auth.http.request("DELETE", path, json={"should_soft_delete": True}, headers=auth.admin)
    assert response.json() == {}
    for method in ("GET", "PUT", "DELETE"):
        assert code(await auth.http.request(method, path, json={}, headers=auth.admin)) == (404, "user_not_found")


async def test_an_id_is_a_uuid(auth: Auth) -> None:
    """404, as the real service answers."""
    assert code(await auth.http.get("/admin/users/ann", headers=auth.admin)) == (404, "validation_failed")
