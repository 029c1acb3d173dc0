"""Which answer is the server's own refusal. Anything in between, such as a proxy or a portal, can answer 401, 403 or
404 for a while; only the server's own answer is final."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from onsembl.protocol.drain import DRAINING_PROBLEM
from onsembl.protocol.enrolment import DeviceErrorCode

PROBLEM = "application/problem+json"


class _Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457), as the server writes it."""

    status: int
    detail: str
    type: str = ""


class _DeviceError(msgspec.Struct, frozen=True):
    """An error of the device flow (RFC 8628)."""

    error: DeviceErrorCode


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> str | None:
    """The text of the server's own refusal; None for an answer that need not be the server's."""
    problem = _problem(status, headers, body)
    return problem.detail if problem is not None else None


def is_draining(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the instance that answers is about to stop, and another one takes over."""
    problem = _problem(status, headers, body)
    return problem is not None and problem.type == DRAINING_PROBLEM


def _problem(status: int, headers: Mapping[str, str], body: bytes) -> _Problem | None:
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() != PROBLEM:
        return None
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return problem if problem.status == status else None


def is_device_error(body: bytes) -> bool:
    """Whether the answer is an error of the device flow."""
    try:
        msgspec.json.decode(body, type=_DeviceError)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True
