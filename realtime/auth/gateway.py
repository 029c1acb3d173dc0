"""The checks that Supabase's API gateway makes before Auth: a project key on every call, and a key in the place of a
token in `Authorization`."""

from __future__ import annotations

from starlette.requests import Request

from onsembl.realtime.auth.errors import AuthError
from onsembl.realtime.keys import ProjectKeys
from onsembl.realtime.tokens import AccessTokens, BadToken


class Gateway:
    """Checks the key and the token of a request."""

    def __init__(self, keys: ProjectKeys, tokens: AccessTokens) -> None:
        self._keys = keys
        self._tokens = tokens

    def require_key(self, request: Request) -> None:
        """Raises AuthError unless `apikey` is one of the project's keys."""
        key = request.headers.get("apikey", "")
        if self._keys.role_of(key) is None:
            raise AuthError(401, "no_authorization", "Invalid API key" if key else "No API key found in request")

    def access_token(self, request: Request) -> str:
        """The user's access token, not verified. Raises AuthError when there is none, or a key in its place."""
        token = _bearer(request)
        if not token:
            raise AuthError(401, "no_authorization", "This endpoint requires a valid Bearer token")
        if token == request.headers.get("apikey"):
            raise AuthError(403, "bad_jwt", "invalid claim: missing sub claim")
        return token

    def require_admin(self, request: Request) -> None:
        """Raises AuthError unless the caller acts as `service_role`: by the secret key, in `apikey` or both headers."""
        key = request.headers.get("apikey", "")
        token = _bearer(request)
        if token in ("", key):
            role: object = self._keys.role_of(key)
        else:
            try:
                role = self._tokens.verify(token)["role"]
            except BadToken as error:
                raise AuthError(
                    403, "bad_jwt", f"invalid JWT: unable to parse or verify signature, {error.message}"
                ) from error
        if role != "service_role":
            raise AuthError(403, "not_admin", "User not allowed")


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
