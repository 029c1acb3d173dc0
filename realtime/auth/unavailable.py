"""The endpoints of Supabase Auth that the built-in Auth does not offer, each with the error code of the real service.

There is no text message, no other sign-in provider and no second factor, and without a mail server no e-mail. A real
project answers so where they are switched off, and the clients know these codes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onsembl.realtime.auth.errors import AuthError
from onsembl.realtime.auth.gateway import Gateway
from onsembl.realtime.auth.responses import Handler, json_response

Caller = Literal["anyone", "user", "admin"]
Authenticate = Callable[[str], Awaitable[object]]
"""Raises AuthError for an access token that is not valid."""

NO_MAIL = (400, "email_provider_disabled", "This server sends no email")
NO_FACTOR = (404, "mfa_factor_not_found", "MFA factor with this ID was not found")
NO_LINKING = (404, "manual_linking_disabled", "Manual linking is disabled")
NO_SAML = (404, "saml_provider_disabled", "SAML 2.0 is disabled")
NO_PROVIDER = (404, "sso_provider_not_found", "No SSO provider was found")
NO_STATE = (400, "bad_oauth_state", "OAuth state parameter is missing or invalid")
NO_LINK = (403, "otp_expired", "Email link is invalid or has expired")
NO_OTP = (422, "otp_disabled", "Signups not allowed for otp")


@dataclass(frozen=True, slots=True)
class Unavailable:
    """An endpoint with its error: status, code and message."""

    path: str
    methods: tuple[str, ...]
    error: tuple[int, str, str]
    caller: Caller = "anyone"
    needs_key: bool = True
    """Whether it needs a project key. Links in e-mails and providers' redirects have none."""


UNAVAILABLE = (
    Unavailable("/otp", ("POST",), NO_OTP),
    Unavailable("/magiclink", ("POST",), NO_OTP),
    Unavailable("/recover", ("POST",), NO_MAIL),
    Unavailable("/resend", ("POST",), NO_MAIL),
    Unavailable("/verify", ("GET",), NO_LINK, needs_key=False),
    Unavailable("/verify", ("POST",), (403, "otp_expired", "Token has expired or is invalid")),
    Unavailable("/reauthenticate", ("GET",), NO_MAIL, "user"),
    Unavailable("/invite", ("POST",), NO_MAIL, "admin"),
    Unavailable("/callback", ("GET", "POST"), NO_STATE, needs_key=False),
    Unavailable("/user/identities/authorize", ("GET",), NO_LINKING, "user"),
    Unavailable("/user/identities/{identity_id}", ("DELETE",), NO_LINKING, "user"),
    Unavailable("/factors/{factor_id}", ("DELETE",), NO_FACTOR, "user"),
    Unavailable("/factors/{factor_id}/challenge", ("POST",), NO_FACTOR, "user"),
    Unavailable("/factors/{factor_id}/verify", ("POST",), NO_FACTOR, "user"),
    Unavailable("/sso", ("POST",), NO_SAML),
    Unavailable("/sso/saml/metadata", ("GET",), NO_SAML, needs_key=False),
    Unavailable("/sso/saml/acs", ("POST",), NO_SAML, needs_key=False),
    Unavailable("/admin/generate_link", ("POST",), NO_MAIL, "admin"),
    Unavailable("/admin/users/{user_id}/factors/{factor_id}", ("PUT", "DELETE"), NO_FACTOR, "admin"),
    Unavailable("/admin/sso/providers", ("POST",), NO_SAML, "admin"),
    Unavailable("/admin/sso/providers/{provider_id}", ("GET", "PUT", "DELETE"), NO_PROVIDER, "admin"),
)
GRANTS = {
    "pkce": (404, "flow_state_not_found", "invalid flow state, no valid flow state found"),
    "id_token": (400, "provider_disabled", "No provider is enabled for ID tokens"),
    "web3": (422, "web3_provider_disabled", "Web3 provider is disabled"),
}
"""The grants of `/token` that are not offered."""
FACTORS = {
    "totp": (422, "mfa_totp_enroll_not_enabled", "MFA enroll is disabled for TOTP"),
    "phone": (422, "mfa_phone_enroll_not_enabled", "MFA enroll is disabled for Phone"),
    "webauthn": (422, "mfa_webauthn_enroll_not_enabled", "MFA enroll is disabled for WebAuthn"),
}
"""The kinds of second factors, none of which can be enrolled."""
WRONG_FACTOR = (400, "validation_failed", "factor_type needs to be totp, phone, or webauthn")

EMPTY = (
    ("/admin/audit", list[object]()),
    ("/admin/users/{user_id}/factors", list[object]()),
    ("/admin/sso/providers", {"items": list[object]()}),
)
"""Lists for admins that are always empty: their path and the answer."""


def unavailable_routes(gateway: Gateway, authenticate: Authenticate) -> Iterator[Route]:
    """The routes. They check the key and the caller first, as the real service does."""

    def checked(caller: Caller, needs_key: bool, answer: Callable[[], Response]) -> Handler:
        async def handle(request: Request) -> Response:
            if needs_key:
                gateway.require_key(request)
            if caller == "admin":
                gateway.require_admin(request)
            elif caller == "user":
                await authenticate(gateway.access_token(request))
            return answer()

        return handle

    def error_of(error: tuple[int, str, str]) -> Callable[[], Response]:
        def answer() -> Response:
            raise AuthError(*error)

        return answer

    for one in UNAVAILABLE:
        yield Route(one.path, checked(one.caller, one.needs_key, error_of(one.error)), methods=list(one.methods))
    for path, content in EMPTY:
        yield Route(path, checked("admin", True, lambda content=content: json_response(content)), methods=["GET"])
