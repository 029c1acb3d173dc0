"""What the sessions of agents and of viewers share: how they close, and how many messages they take."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from onsembl.api.http.problems import Problem
from onsembl.protocol.close_codes import CloseCode

MESSAGE_WINDOW_SECONDS = 10.0
"""Control messages may come in bursts; their rate is the average over this time."""
CLOSE_SECONDS = 5.0
"""How long a close frame may wait for earlier frames to be sent."""
MAX_REASON = 120
"""WebSocket close reasons hold at most 123 bytes."""
DATABASE_UNAVAILABLE = "The database is unavailable; reconnect."
FAILED = "Internal error. It has been logged; reconnect."
FRAME_TOO_BIG = "A frame holds at most 1 MiB."
ELSEWHERE = "This agent is connected to another instance."
EXPIRED = "The access token has expired."
KEY_REMOVED = "The key that signed the access token is no longer valid."
HEARTBEAT_LOST = "Three heartbeats went unanswered."


class ConnectionRejected(Exception):
    """The server closes the connection with this close code and reason."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def rejection_by(problem: Problem) -> ConnectionRejected:
    """The rejection of a client whose access token does not count, for the reason of this problem."""
    match problem.status:
        case 403:
            code = CloseCode.FORBIDDEN
        case 429:
            code = CloseCode.RATE_LIMITED
        case 503:
            code = CloseCode.INTERNAL_ERROR
        case _:
            code = CloseCode.UNAUTHENTICATED
    return ConnectionRejected(code, problem.detail)


async def close_socket(websocket: WebSocket, code: CloseCode, reason: str) -> None:
    """Close the socket with this code and reason, unless the client has closed it already.

    A client that reads nothing does not read the close frame either: then the connection ends without one.
    """
    if websocket.application_state is WebSocketState.CONNECTED:
        with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await websocket.close(code, reason.encode()[:MAX_REASON].decode(errors="ignore"))
