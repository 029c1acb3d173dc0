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
from dataclasses import replace
from uuid import UUID

import httpx

from onsembl.api.auth.operator import Operator
from onsembl.api.auth.supabase_user import BANNED, NoAnswer, RejectedBySupabase, has_second_factor, user_of
from onsembl.api.http.problems import SECOND_FACTOR_PROBLEM, Problem, unauthenticated
from onsembl.protocol.ids import OperatorId
from onsembl.protocol.states import Role
from onsembl.realtime.builtin import BuiltinSupabase
from onsembl.realtime.operators import role_in

LOOK_SECONDS = 60.0
RETRY_SECONDS = 10.0
"""How soon a hosted project that did not answer is asked again; until then the token counts."""
MAX_KNOWN = 1000
Look = Callable[[Operator, str], Awaitable[tuple[Role | None, float]]]
"""The present role of the operator with this access token, and until when the answer counts, by the monotonic clock.
Raises Problem 401 when the session has ended or lacks the account's second factor, and Problem 403 when the account is
disabled."""


class Accounts:
    """The present roles of the operators' sessions."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._known: OrderedDict[tuple[OperatorId, str, bool], tuple[Role | None, float]] = OrderedDict()
        self._forgotten = 0

    async def present(self, operator: Operator, token: str) -> Operator:
        """The operator with the role that the account has now. Raises Problem 401 and 403, and the errors of the
        database."""
        key = (operator.id, operator.session_id, operator.second_factor)
        known = self._known.get(key)
        if known is None or time.monotonic() >= known[1]:
            forgotten = self._forgotten
            known = await self._look(operator, token)
            if self._forgotten == forgotten:  # else the answer may be older than a change since
                self._known[key] = known
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return operator if operator.role == known[0] else replace(operator, role=known[0])

    def forget(self, operator_id: OperatorId | None = None) -> None:
        """Look again at this operator's account, or at all, at the next request."""
        self._forgotten += 1
        for key in [key for key in self._known if operator_id in (None, key[0])]:
            del self._known[key]


def builtin_look(builtin: BuiltinSupabase) -> Look:
    """Looks at the accounts of the built-in Supabase; an answer counts until it is forgotten."""

    async def look(operator: Operator, _token: str) -> tuple[Role | None, float]:
        try:
            session_id = UUID(operator.session_id)
        except ValueError as error:
            raise unauthenticated("The access token names no session.") from error
        user = await builtin.user_of(session_id, operator.id)
        if user is not None and user["banned"]:
            raise disabled()
        if user is None or not user["open"]:
            raise unauthenticated("The session has ended.")
        return role_in(user["app_metadata"]), float("inf")

    return look


def hosted_look(client: httpx.AsyncClient, issuer: str, api_key: str) -> Look:
    """Looks at the accounts of a hosted project by `GET /user` with the operator's own token.

    While the project does not answer, a session without the second factor that its account is known to have is
    rejected, with Problem 503.
    """
    with_factor: OrderedDict[OperatorId, None] = OrderedDict()

    async def look(operator: Operator, token: str) -> tuple[Role | None, float]:
        now = time.monotonic()
        try:
            user = await user_of(client, issuer, api_key, token)
        except RejectedBySupabase as error:
            if error.code == BANNED:
                raise disabled() from error
            raise unauthenticated("The session has ended.") from error
        except NoAnswer as error:
            if operator.id in with_factor and not operator.second_factor:
                raise Problem(503, "The sign-in service is not responding; try again.") from error
            return operator.role, now + RETRY_SECONDS
        if user["id"] != str(operator.id):
            return operator.role, now + RETRY_SECONDS
        with_factor.pop(operator.id, None)
        if has_second_factor(user):
            with_factor[operator.id] = None
            if len(with_factor) > MAX_KNOWN:
                with_factor.popitem(last=False)
            if not operator.second_factor:
                raise second_factor_missing()
        return role_in(user.get("app_metadata")), now + LOOK_SECONDS

    return look


def second_factor_missing() -> Problem:
    """The problem of a session without the second factor that the account has (RFC 9470)."""
    challenge = 'Bearer error="insufficient_user_authentication", acr_values="aal2"'
    detail = "This account has a second factor, and the session was begun without it."
    return Problem(401, detail, headers={"WWW-Authenticate": challenge}, type=SECOND_FACTOR_PROBLEM)


def disabled() -> Problem:
    """The problem of an operator whose account is disabled."""
    return Problem(403, "This operator is disabled.")
