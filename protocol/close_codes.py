"""The server's WebSocket close codes (RFC 6455 §7.4.2 leaves 4000-4999 to applications).

The code tells a client to reconnect after a delay, or to stay away until a person has acted.
"""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Why the server closed an agent's or a terminal's socket."""

    NORMAL = 1000
    GOING_AWAY = 1001
    """The instance stops or restarts, or the connection was taken for lost: reconnect."""
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011

    BAD_MESSAGE = 4400
    """The frame is not a valid message of the protocol."""
    UNAUTHENTICATED = 4401
    """There is no valid token."""
    FORBIDDEN = 4403
    """The token is valid, but its holder lacks the permission."""
    NOT_FOUND = 4404
    """There is no such agent."""
    HELLO_TIMEOUT = 4408
    """The first message did not come within 5 s."""
    SUPERSEDED = 4409
    """The same agent has connected again; this connection is replaced."""
    UNSUPPORTED_PROTOCOL = 4426
    """The server does not support the client's version of the protocol."""
    HEARTBEAT_LOST = 4428
    """Three pings were not answered: reconnect."""
    RATE_LIMITED = 4429
    """The client exceeded a rate limit: reconnect later."""
    STREAM_REJECTED = 4460
    """The output has a gap, or an offset that was never sent: reconnect, and resume."""
    ELSEWHERE = 4410
    """The agent is connected to another instance: reconnect, so that the proxy in front can choose that one."""
    DRAINING = 4411
    """The instance is about to stop: reconnect at once, another one takes over."""
    TOKEN_EXPIRED = 4461
    """The access token expired: refresh it and reconnect."""
    REFRESH_REJECTED = 4462
    """The refresh token is not valid: a person has to enrol the agent again."""
    REVOKED = 4463
    """The agent or the operator was disabled, or the credentials were revoked."""
    TOKEN_REUSED = 4464
    """A refresh token was used twice, so it may have been stolen: all tokens of its family are revoked."""

    @property
    def is_rejection(self) -> bool:
        """Whether the server rejected the client or one of its frames."""
        return self >= 4400 and self not in (
            CloseCode.SUPERSEDED,
            CloseCode.ELSEWHERE,
            CloseCode.DRAINING,
            CloseCode.HEARTBEAT_LOST,
        )

    @property
    def is_permanent(self) -> bool:
        """Whether reconnecting is pointless until a person has acted."""
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
    """Whether `code` tells the client to stay away; other applications' codes do not."""
    return code in _PERMANENT
