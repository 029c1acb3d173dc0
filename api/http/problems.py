"""Errors for people and programs: `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from onsembl.fleet.commands import AgentNotFoundError, ContentError, KindError
from onsembl.protocol import request_ids

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONTENT_PROBLEM = "urn:onsembl:problem:wording"
"""The `type` of the problem whose `fields` has an error for each invalid variable of a preset."""

KIND_PROBLEM = "urn:onsembl:problem:preset-kind"
"""The `type` of the problem that a preset is not for agents of the target's kind; `kinds` are those that it is for."""


READ_ONLY_PROBLEM = "urn:onsembl:problem:read-only"
"""The `type` of the problem that the database takes no changes."""

SECOND_FACTOR_PROBLEM = "urn:onsembl:problem:second-factor"
"""The `type` of the problem that the account has a second factor, and the session was begun without it."""

FOR_ADMINS_PROBLEM = "urn:onsembl:problem:for-admins"
"""The `type` of the problem that only an admin may do this: by the policy `rule`, made by `by_name`."""

READ_ONLY = (
    "The database is read-only, so nothing can be changed; everything can still be read. A Supabase project becomes "
    "read-only when its disk is full: delete data or take a larger plan."
)


class Problem(Exception):
    """An error with an answer. `detail` is written for the person who made the request."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    def response(self) -> Response:
        """The answer to send."""
        title = HTTPStatus(self.status).phrase
        body = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail, **self.extra}
        return Response(orjson.dumps(body), self.status, headers=self.headers, media_type="application/problem+json")


def found(row: T | None, noun: str) -> T:
    """The row. Raises Problem 404 if there is none; `noun` names its kind for people."""
    if row is None:
        raise Problem(404, f"{noun[0].upper()}{noun[1:]} not found.")
    return row


def unauthenticated(detail: str) -> Problem:
    """The Problem 401, with the authentication scheme of the route (RFC 6750)."""
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})


async def problem_answer(_request: Request, error: Exception) -> Response:
    """Starlette's exception handler for Problem."""
    assert isinstance(error, Problem)
    return error.response()


async def http_error_answer(_request: Request, error: Exception) -> Response:
    """Starlette's own errors (unknown route, method not allowed) in the same form."""
    assert isinstance(error, HTTPException)
    return Problem(error.status_code, str(error.detail), headers=error.headers).response()


async def send_error_answer(_request: Request, error: Exception) -> Response:
    """A command that cannot be sent: 422 for invalid content, 404 for an unknown agent, else 409."""
    match error:
        case ContentError():
            problem = Problem(422, str(error), type=CONTENT_PROBLEM, fields=error.fields)
        case KindError():
            problem = Problem(422, str(error), type=KIND_PROBLEM, kinds=error.kinds)
        case AgentNotFoundError():
            problem = Problem(404, str(error))
        case _:
            problem = Problem(409, str(error))
    return problem.response()


async def no_database_answer(_request: HTTPConnection, error: Exception) -> Response:
    """The database does not respond: nothing was changed, and the client may try again."""
    logger.warning("The database failed a request: %s", error, extra={"action": "request_failed"})
    return Problem(503, "The database is not responding. Try again.", headers={"Retry-After": "2"}).response()


async def read_only_answer(_request: HTTPConnection, error: Exception) -> Response:
    """The database takes no changes: nothing was changed, and reads go on."""
    logger.warning("The database is read-only: %s", error, extra={"action": "request_failed"})
    return Problem(503, READ_ONLY, type=READ_ONLY_PROBLEM, headers={"Retry-After": "60"}).response()


def server_error_answer(headers: Mapping[str, str]) -> Callable[[Request, Exception], Awaitable[Response]]:
    """The answer to an unforeseen error: the log has the details, the client gets the id that finds them. The answer
    includes `headers`, since no middleware can add them."""

    async def answer(_request: Request, _error: Exception) -> Response:
        request_id = request_ids.current()
        named = {"X-Request-ID": request_id} if request_id is not None else {}
        detail = "Internal error. It has been logged."
        return Problem(500, detail, headers={**headers, **named}, request_id=request_id).response()

    return answer
