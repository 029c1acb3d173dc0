"""Whether the account behind an operator's access token is still as the token says.

A token is valid for an hour, and Supabase's own API may ban, delete or demote its user, or end its session, meanwhile.
An account may also get a second factor, after which its sessions without the factor no longer count. The built-in
Supabase is asked once, and again after each change, of which it notifies every instance. A hosted project is asked at
most once in `LOOK_SECONDS` for each session, while its operator acts.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from uuid import UUID

import httpx

from onsembl.api.auth.operator import Operator
from onsembl.api.auth.supabase_user import BAD_JWT, BANNED, NoAnswer, RejectedBySupabase, has_second_factor, user_of
from onsembl.api.http.problems import SECOND_FACTOR_PROBLEM, Problem, unauthenticated
from onsembl.protocol.ids import OperatorId
from onsembl.protocol.states import Role
from onsembl.realtime.builtin import BuiltinSupabase
from onsembl.realtime.operators import role_in

LOOK_SECONDS = 60.0
RETRY_SECONDS = 10.0
"""How soon a hosted project that did not answer is asked again; until then its last answer counts, else the token."""
MAX_KNOWN = 1000
Session = tuple[OperatorId, str, bool]


@dataclass(frozen=True, slots=True)
class Finding:
    """The present role of an operator, and until when it counts, by the monotonic clock. `answered` is false if the
    project did not answer."""

    role: Role | None
    until: float
    answered: bool = True


Look = Callable[[Operator, str], Awaitable[Finding]]
"""Looks at the account of the operator with this access token. Raises Problem 401 when the session has ended or lacks
the account's second factor, and Problem 403 when the account is disabled."""


class Accounts:
    """The present roles of the operators' sessions."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._known: OrderedDict[Session, Finding] = OrderedDict()
        self._forgotten = 0

    async def present(self, operator: Operator, token: str) -> Operator:
        """The operator with the role that the account has now. Raises Problem 401 and 403, and the errors of the
        database."""
        key = _session(operator)
        known = self._known.get(key)
        if known is None or time.monotonic() >= known.until:
            self._known.pop(key, None)
            forgotten = self._forgotten
            known = await self._look(operator, token)
            if self._forgotten == forgotten:  # else the answer may be older than a change since
                self._known[key] = known
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return operator if operator.role == known.role else replace(operator, role=known.role)

    def is_unanswered(self, operator: Operator) -> bool:
        """Whether the project did not answer when it was last asked about the operator's session."""
        known = self._known.get(_session(operator))
        return known is not None and not known.answered

    def forget(self, operator_id: OperatorId | None = None) -> None:
        """Look again at this operator's account, or at all, at the next request."""
        self._forgotten += 1
        for key in [key for key in self._known if operator_id in (None, key[0])]:
            del self._known[key]


def _session(operator: Operator) -> Session:
    return operator.id, operator.session_id, operator.second_factor


def builtin_look(builtin: BuiltinSupabase) -> Look:
    """Looks at the accounts of the built-in Supabase; an answer counts until it is forgotten."""

    async def look(operator: Operator, _token: str) -> Finding:
        try:
            session_id = UUID(operator.session_id)
        except ValueError as error:
            raise unauthenticated("The access token names no session.") from error
        user = await builtin.user_of(session_id, operator.id)
        if user is not None and user["banned"]:
            raise disabled()
        if user is None or not user["open"]:
            raise unauthenticated("The session has ended.")
        return Finding(role_in(user["app_metadata"]), float("inf"))

    return look


def hosted_look(client: httpx.AsyncClient, issuer: str, api_key: str) -> Look:
    """Looks at the accounts of a hosted project by `GET /user` with the operator's own token.

    While the project does not answer, its last answer about the session counts, else the token; a session without the
    second factor that its account is known to have is rejected, with Problem 503.
    """
    with_factor: OrderedDict[OperatorId, None] = OrderedDict()
    answers: OrderedDict[Session, tuple[Role | None, str | None]] = OrderedDict()
    """The last role of each session, or the code of its rejection."""

    def remember(operator: Operator, role: Role | None, code: str | None = None) -> None:
        answers[_session(operator)] = role, code
        answers.move_to_end(_session(operator))
        if len(answers) > MAX_KNOWN:
            answers.popitem(last=False)

    async def look(operator: Operator, token: str) -> Finding:
        asked_at = time.monotonic()
        try:
            user = await user_of(client, issuer, api_key, token, str(operator.id))
        except RejectedBySupabase as error:
            if error.code != BAD_JWT:  # which says nothing of the session's next token
                remember(operator, None, error.code)
            raise _rejection(error.code) from error
        except NoAnswer as error:
            if operator.id in with_factor and not operator.second_factor:
                raise Problem(503, "The sign-in service is not responding; try again.") from error
            role, code = answers.get(_session(operator), (operator.role, None))
            if code is not None:
                raise _rejection(code) from error
            return Finding(role, time.monotonic() + RETRY_SECONDS, answered=False)
        with_factor.pop(operator.id, None)
        if has_second_factor(user):
            with_factor[operator.id] = None
            if len(with_factor) > MAX_KNOWN:
                with_factor.popitem(last=False)
            if not operator.second_factor:
                raise second_factor_missing()
        role = role_in(user.get("app_metadata"))
        remember(operator, role)
        return Finding(role, asked_at + LOOK_SECONDS)

    return look


def _rejection(code: str) -> Problem:
    return disabled() if code == BANNED else unauthenticated("The session has ended.")


def second_factor_missing() -> Problem:
    """The problem of a session without the second factor that the account has (RFC 9470)."""
    challenge = 'Bearer error="insufficient_user_authentication", acr_values="aal2"'
    detail = "This account has a second factor, and the session was begun without it."
    return Problem(401, detail, headers={"WWW-Authenticate": challenge}, type=SECOND_FACTOR_PROBLEM)


def disabled() -> Problem:
    """The problem of an operator whose account is disabled."""
    return Problem(403, "This operator is disabled.")
