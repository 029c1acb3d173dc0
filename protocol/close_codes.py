"""WebSocket close codes of our own (RFC 6455 §7.4.2 leaves 4000-4999 to applications).

A client obeys the code: it comes back after a delay, or it stays away until a person has acted.
"""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Why the server closed an agent's or a terminal's socket."""

    NORMAL = 1000
    GOING_AWAY = 1001
    """The instance stops or restarts: come back."""
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011

    BAD_MESSAGE = 4400
    """A frame that the protocol does not know, or whose content is not valid."""
    UNAUTHENTICATED = 4401
    """No token, or not a valid one."""
    FORBIDDEN = 4403
    """The token is good and its holder may not do this."""
    NOT_FOUND = 4404
    """There is no such agent."""
    HELLO_TIMEOUT = 4408
    """The first message did not come within 5 s."""
    SUPERSEDED = 4409
    """The same agent has connected again; this connection is no longer its own."""
    UNSUPPORTED_PROTOCOL = 4426
    """The client speaks a version of the protocol that the server does not."""
    HEARTBEAT_LOST = 4428
    """Three heartbeats went unanswered: come back."""
    RATE_LIMITED = 4429
    """Too much, too fast: come back later."""
    STREAM_REJECTED = 4460
    """Output that leaves a gap, or runs backwards over what was never sent."""
    TOKEN_EXPIRED = 4461
    """The access token ended: get another and come back."""
    REFRESH_REJECTED = 4462
    """The refresh token is not good: only a person can enrol the agent again."""
    REVOKED = 4463
    """The agent or the operator was disabled, or the credential revoked."""
    TOKEN_REUSED = 4464
    """A refresh token came a second time, so one of the two who have it stole it: the whole family is revoked."""

    @property
    def is_rejection(self) -> bool:
        """Whether the other side has done what it may not, or is not let in."""
        return self >= 4400 and self not in (CloseCode.SUPERSEDED, CloseCode.HEARTBEAT_LOST)

    @property
    def is_permanent(self) -> bool:
        """Whether coming back without a person's help is pointless."""
        return self in _PERMANENT


_PERMANENT = frozenset(
    {
        CloseCode.BAD_MESSAGE,
        CloseCode.FORBIDDEN,
        CloseCode.NOT_FOUND,
        CloseCode.SUPERSEDED,
        CloseCode.UNSUPPORTED_PROTOCOL,
        CloseCode.REFRESH_REJECTED,
        CloseCode.REVOKED,
        CloseCode.TOKEN_REUSED,
    }
)


def is_permanent(code: int) -> bool:
    """Whether `code` tells the client to stay away; codes that are not ours do not."""
    return code in _PERMANENT
