"""The management of users with the secret key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from support.cases import cases

if TYPE_CHECKING:
    from .conftest import Auth

EMAIL = "ann@example.org"
PASSWORD = "correct horse battery"


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


async def test_only_the_secret_key_manages_users(auth: Auth) -> None:
    """The publishable key, an operator's token and a mixture of both are rejected."""
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


async def test_a_user_is_created(auth: Auth) -> None:
    """A user has the given attributes, and the audit log has the creation by an admin."""
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
    """A user who was created without a password signs in only after an admin has set one."""
    user = await auth.create(password=None)
    assert (await auth.sign_in(password="")).status_code == 400
    await auth.http.put(f"/admin/users/{user['id']}", json={"password": PASSWORD}, headers=auth.admin)
    assert (await auth.sign_in()).status_code == 200


async def test_an_address_belongs_to_one_user(auth: Auth) -> None:
    """An email address of another user, in any case, is rejected on creation and on change."""
    await auth.create()
    taken = await auth.http.post("/admin/users", json={"email": "ANN@example.org"}, headers=auth.admin)
    assert code(taken) == (422, "email_exists")
    other = await auth.create("bob@example.org")
    taken = await auth.http.put(f"/admin/users/{other['id']}", json={"email": "Ann@example.org"}, headers=auth.admin)
    assert code(taken) == (422, "email_exists")


NO_ADDRESSES = [
    *("ann", "ann@", "@example.org", "a b@example.org", "a@b@c", "x" * 65 + "@y", "<ann>@example.org", "ann@exa mple"),
    *(
        "ann@-x.org",
        "ann@x-.org",
        "ann@x..org",
        "ann@.org",
        "ann@x_y.org",
        "ann@[::1]",
        "ann@example.org.",
        "änn@x.org",
    ),
    *(
        "ann@" + "x" * 64 + ".org",
        "ann@" + "x." * 130 + "org",
        "ann@example.org,eve@example.org",
        "ann@x.org\nBcc: y@x",
    ),
]


@cases("email", NO_ADDRESSES)
async def test_an_invalid_address_is_rejected(auth: Auth, email: str) -> None:
    """What HTML and the real service do not take for an email address is rejected with Supabase's text, and changes
    nothing."""
    response = await auth.http.post("/admin/users", json={"email": email}, headers=auth.admin)
    assert code(response) == (400, "validation_failed")
    assert response.json()["message"] == "Unable to validate email address: invalid format"
    assert (await auth.http.get("/admin/users", headers=auth.admin)).json()["users"] == []


@cases("email", ["a@localhost", "o'hara+tag@sub.example.org", "x" * 64 + "@" + "y" * 63 + ".org", " Ann@Example.org "])
async def test_an_unusual_address_is_an_address(auth: Auth, email: str) -> None:
    """Every email address of HTML is taken, without the spaces around it and in lower case."""
    user = await auth.create(email)
    assert user["email"] == email.strip().lower()


async def test_a_user_is_changed(auth: Auth) -> None:
    """Metadata is merged and a null removes a member; a new password ends every session."""
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
async def test_a_ban_lasts_for_its_duration(auth: Auth, duration: str, seconds: int) -> None:
    """A ban has a duration in Go's notation, and `none` lifts it."""
    user = await auth.create()
    path = f"/admin/users/{user['id']}"
    changed = (await auth.http.put(path, json={"ban_duration": duration}, headers=auth.admin)).json()
    until = datetime.fromisoformat(changed["banned_until"])
    assert abs(until - datetime.now(UTC) - timedelta(seconds=seconds)) < timedelta(minutes=1)
    lifted = (await auth.http.put(path, json={"ban_duration": "none"}, headers=auth.admin)).json()
    assert "banned_until" not in lifted
    assert (await auth.sign_in()).status_code == 200


@pytest.mark.parametrize("duration", ["24", "h", "-1h", "1d", "24h ", "1e9h"])
async def test_an_invalid_duration_is_rejected(auth: Auth, duration: str) -> None:
    """A request with an invalid duration is rejected and changes nothing."""
    user = await auth.create()
    path = f"/admin/users/{user['id']}"
    body = {"ban_duration": duration, "user_metadata": {"a": 1}}
    assert code(await auth.http.put(path, json=body, headers=auth.admin)) == (400, "validation_failed")
    assert (await auth.http.get(path, headers=auth.admin)).json()["user_metadata"] == {}


async def test_a_database_role_cannot_be_given(auth: Auth) -> None:
    """A user cannot get the database role `service_role`."""
    response = await auth.http.post("/admin/users", json={"email": EMAIL, "role": "service_role"}, headers=auth.admin)
    assert code(response) == (422, "validation_failed")


async def test_users_are_listed_by_pages(auth: Auth) -> None:
    """Users are listed newest first, with the headers from which the clients read the number of pages."""
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


async def test_a_user_is_deleted(auth: Auth) -> None:
    """A deleted user is not found any more, also after a soft deletion."""
    user = await auth.create()
    path = f"/admin/users/{user['id']}"
    response = await auth.http.request("DELETE", path, json={"should_soft_delete": True}, headers=auth.admin)
    assert response.json() == {}
    for method in ("GET", "PUT", "DELETE"):
        assert code(await auth.http.request(method, path, json={}, headers=auth.admin)) == (404, "user_not_found")


async def test_an_id_is_a_uuid(auth: Auth) -> None:
    """An id that is no UUID gets a 404, as from the real service."""
    assert code(await auth.http.get("/admin/users/ann", headers=auth.admin)) == (404, "validation_failed")
