"""The request bodies and query parameters of the built-in Supabase Auth."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar, cast
from uuid import UUID

import msgspec
from msgspec import Meta
from starlette.requests import Request

from onsembl.realtime import bodies
from onsembl.realtime.auth.errors import AuthError

MAX_BODY_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_NUMBER = 2**63
B = TypeVar("B")

Text = Annotated[str, Meta(max_length=4096)]


class PasswordGrantParams(msgspec.Struct, frozen=True):
    """`POST /token?grant_type=password`."""

    email: Text = ""
    password: Text = ""
    phone: Text | None = None


class RefreshTokenGrantParams(msgspec.Struct, frozen=True):
    """`POST /token?grant_type=refresh_token`."""

    refresh_token: Text = ""


class SignupParams(msgspec.Struct, frozen=True):
    """`POST /signup`."""

    email: Text | None = None
    phone: Text | None = None
    password: Text | None = None
    data: dict[str, Any] | None = None


class UserUpdateParams(msgspec.Struct, frozen=True):
    """`PUT /user`."""

    email: Text | None = None
    phone: Text | None = None
    password: Text | None = None
    data: dict[str, Any] | None = None
    app_metadata: dict[str, Any] | None = None


class LinkParams(msgspec.Struct, frozen=True):
    """`POST /otp`, `/magiclink` and `/recover`. `create_user` is ignored: links create no users."""

    email: Text = ""
    phone: Text | None = None
    code_challenge: Text | None = None
    code_challenge_method: Text | None = None


class VerifyParams(msgspec.Struct, frozen=True):
    """`POST /verify`, with the token of a link."""

    type: Text = ""
    token_hash: Text = ""


class CodeGrantParams(msgspec.Struct, frozen=True):
    """`POST /token?grant_type=pkce`."""

    auth_code: Text = ""
    code_verifier: Text = ""


class EnrollParams(msgspec.Struct, frozen=True):
    """`POST /factors`."""

    factor_type: Text = ""


class AdminUserParams(msgspec.Struct, frozen=True):
    """`POST /admin/users` and `PUT /admin/users/{id}`. `role` is the database role; users have only one."""

    id: UUID | None = None
    email: Text | None = None
    phone: Text | None = None
    password: Text | None = None
    role: Text | None = None
    app_metadata: dict[str, Any] | None = None
    user_metadata: dict[str, Any] | None = None
    email_confirm: bool | None = None
    ban_duration: Text | None = None


async def read_body(request: Request, model: type[B]) -> B:
    """The body as `model`. Raises AuthError."""
    try:
        raw = await bodies.read_body(request, MAX_BODY_BYTES)
    except bodies.BodyRejected as rejected:
        code = "request_entity_too_large" if rejected.status == 413 else "request_timeout"
        error = AuthError(rejected.status, code, str(rejected))
        error.headers.update(bodies.CLOSE)
        raise error from rejected
    try:
        body = msgspec.json.decode(raw, type=model)
    except msgspec.ValidationError as error:
        raise AuthError(400, "validation_failed", str(error)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise AuthError(400, "bad_json", f"Could not parse request body as JSON: {error}") from error
    for name in ("data", "app_metadata", "user_metadata"):
        _check_metadata(name, getattr(body, name, None), 0)
    return body


def _check_metadata(name: str, value: object, depth: int) -> None:
    """Reject metadata that a response could not hold: its JSON encoder has 64-bit integers and a limited depth."""
    if depth > MAX_DEPTH or (isinstance(value, int | float) and abs(value) >= MAX_NUMBER):
        raise AuthError(400, "validation_failed", f"{name} is nested too deep, or holds too large a number")
    if isinstance(value, dict | list):
        inner = cast("dict[str, object] | list[object]", value)
        for item in inner.values() if isinstance(inner, dict) else inner:
            _check_metadata(name, item, depth + 1)


def client_address(request: Request) -> str:
    """The client's network address; empty when there is none (a Unix socket)."""
    return request.client.host if request.client is not None else ""


def page_of(request: Request) -> tuple[int, int]:
    """The page's number, from 1, and the page's size. Raises AuthError."""
    return _number(request, "page", 1, 1_000_000), _number(request, "per_page", 50, 1000)


def seconds_of(duration: str) -> float:
    """A duration in Go's notation, as the clients send it: `24h`, `1h30m`, or `none` for 0. Raises AuthError."""
    if duration == "none":
        return 0.0
    if not _DURATION.fullmatch(duration):
        raise AuthError(400, "validation_failed", f"invalid format for ban duration: {duration!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(duration))


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|h|m|s)")
_DURATION = re.compile(f"(?:{_PART.pattern})+")


def _number(request: Request, name: str, default: int, largest: int) -> int:
    text = request.query_params.get(name) or str(default)
    if not re.fullmatch("[0-9]{1,9}", text):
        raise AuthError(400, "validation_failed", f"Bad Pagination Parameters: {name} is not a number")
    return min(largest, max(1, int(text)))
