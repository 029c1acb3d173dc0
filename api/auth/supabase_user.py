"""Asks a hosted project's Auth for the user of an access token, and tells its own rejections from other answers."""

from __future__ import annotations

from typing import Any, cast

import httpx

BANNED = "user_banned"
BAD_JWT = "bad_jwt"
ENDED = frozenset({"session_not_found", "session_expired", "user_not_found", BAD_JWT})
"""The codes with which Supabase Auth says that a session or its user is no more, or that the token is not valid."""


class RejectedBySupabase(Exception):
    """Supabase Auth itself rejects the token; `code` is `BANNED` or one of `ENDED`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class NoAnswer(Exception):
    """Supabase Auth was not reached. A rejection without one of its codes comes from a gateway or a proxy in between,
    and says nothing of the token."""


async def user_of(
    client: httpx.AsyncClient, issuer: str, api_key: str, token: str, user_id: str | None = None
) -> dict[str, Any]:
    """The user by `GET /user` with their own token; another user than `user_id` is no answer. Raises RejectedBySupabase
    and NoAnswer."""
    headers = {"Authorization": f"Bearer {token}", "apikey": api_key}
    try:
        response = await client.get(f"{issuer}/user", headers=headers)
        answer = response.json()
        if response.status_code == 200 and isinstance(answer["id"], str) and user_id in (None, answer["id"]):
            return answer
        code = response.headers.get("x-sb-error-code") or answer.get("error_code") or answer.get("code")
    except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise NoAnswer from error
    if response.status_code in (401, 403) and isinstance(code, str) and (code == BANNED or code in ENDED):
        raise RejectedBySupabase(code)
    raise NoAnswer


def has_second_factor(user: dict[str, Any]) -> bool:
    """Whether a user of `user_of` has a factor that was verified, so that signing in without it is not enough."""
    factors: object = user.get("factors")
    listed = cast("list[object]", factors) if isinstance(factors, list) else []
    return any(cast("dict[str, object]", one).get("status") == "verified" for one in listed if isinstance(one, dict))
