"""The JSON responses of the built-in Supabase Auth, and the form of a user in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from psycopg.rows import DictRow
from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]
_OMITTED_IF_NULL = ("email_confirmed_at", "confirmed_at", "last_sign_in_at", "banned_until")


def json_response(content: object) -> Response:
    """A response that no cache may store: it may hold a token."""
    return Response(orjson.dumps(content), media_type="application/json", headers={"Cache-Control": "no-store"})


def user_json(user: DictRow) -> dict[str, Any]:
    """The user with the one identity of the email address."""
    identity = {
        "identity_id": user["id"],
        "id": user["id"],
        "user_id": user["id"],
        "identity_data": {
            "email": user["email"],
            "sub": user["id"],
            "email_verified": user["email_confirmed_at"] is not None,
        },
        "provider": "email",
        "last_sign_in_at": user["last_sign_in_at"],
        "created_at": user["created_at"],
        "updated_at": user["updated_at"],
        "email": user["email"],
    }
    members = {
        "id": user["id"],
        "aud": "authenticated",
        "role": "authenticated",
        "email": user["email"],
        "email_confirmed_at": user["email_confirmed_at"],
        "phone": "",
        "confirmed_at": user["email_confirmed_at"],
        "last_sign_in_at": user["last_sign_in_at"],
        "app_metadata": user["app_metadata"],
        "user_metadata": user["user_metadata"],
        "identities": [identity],
        "created_at": user["created_at"],
        "updated_at": user["updated_at"],
        "banned_until": user["banned_until"],
        "is_anonymous": False,
    }
    return {key: value for key, value in members.items() if value is not None or key not in _OMITTED_IF_NULL}
