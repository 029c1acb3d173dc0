"""How a machine becomes an agent, as both sides of the REST API use it: by a one-time token or by the device flow.

The device flow is the device authorization grant of RFC 8628: the agent shows a code, an operator approves it on the
page, and the agent polls for its credentials meanwhile. Times in seconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from onsembl.protocol.field_types import NO_NUL, Count, Credential, Name, Reason, ShortText
from onsembl.protocol.states import AgentKind, AgentMode

Uri = Annotated[str, Meta(max_length=4096, pattern=NO_NUL)]

CLIENT_ID = "onsembl-agent"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
POLL_SECONDS = 5
"""How long an agent waits between two polls, until an answer of `slow_down` lengthens the pause."""
SLOW_DOWN_SECONDS = 5
"""How much longer the pause is from each `slow_down` on (RFC 8628 §3.5)."""


class Enrolment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine says of the agent that it would be."""

    name: Name
    kind: AgentKind
    mode: AgentMode = AgentMode.EXEC
    host: ShortText = ""
    platform: ShortText = ""


TOKEN_UNKNOWN = "urn:onsembl:problem:refresh-token-unknown"  # noqa: S105 — the name of an error
"""The `type` of the problem that the refresh token is in no row, as after a restored backup."""
RECOVERY_CLOSED = "urn:onsembl:problem:recovery-closed"
"""The `type` of the problem that no recovery is open: the agent asks again, after `Retry-After`."""


class AgentCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """An enrolled agent's tokens: a short-lived access token, and the refresh token for the next pair.

    `recovery_secret` is there at enrolment only. It gets new tokens while an admin has opened a recovery.
    """

    agent_id: UUID
    name: Name
    access_token: Credential
    expires_in: Count
    refresh_token: Credential
    refresh_expires_in: Count
    recovery_secret: Credential | None = None


class DeviceAuthorization(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request for a device code (RFC 8628 §3.2): show `user_code`, keep `device_code` secret."""

    device_code: Credential
    user_code: ShortText
    verification_uri: Uri
    verification_uri_complete: Uri
    expires_in: Count
    interval: Annotated[float, Meta(gt=0, le=3600)] = POLL_SECONDS


class DeviceErrorCode(StrEnum):
    """Error codes of the device flow's two routes (RFC 6749 §5.2, RFC 8628 §3.5)."""

    AUTHORIZATION_PENDING = "authorization_pending"
    """No operator has decided yet: poll again."""
    SLOW_DOWN = "slow_down"
    """The agent polls too often: poll again, more slowly."""
    ACCESS_DENIED = "access_denied"
    """An operator has rejected the request."""
    EXPIRED_TOKEN = "expired_token"  # noqa: S105 — the name of an error
    """The code has expired without a decision."""
    INVALID_GRANT = "invalid_grant"
    """The device code is unknown, or its credentials were already issued."""
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    """Too many requests are open; try again later."""


class DeviceErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an error of the device flow's routes. Codes that are not in `DeviceErrorCode` are possible."""

    error: ShortText
    error_description: Reason = ""
