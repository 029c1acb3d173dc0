"""Passes the clients of the built-in Realtime on to the one process that serves it.

Topics, presence and the streams of changes are that process's, so that all clients meet there. Messages are passed on
unchanged, and so are its answers before the upgrade and its close codes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from onsembl.sql.cancellation import cancel_until_done

logger = logging.getLogger(__name__)

OPEN_SECONDS = 10.0
"""How long the process with Realtime may take to accept a client's socket, in seconds."""
SERVICE_RESTART = 1012
NOT_SENT = frozenset((1005, 1006, 1015))
"""Close codes that stand for no close frame, so none may have them."""
OF_ONE_CONNECTION = frozenset(
    ("connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)
"""Headers that are about one connection, and not passed on."""


class RealtimeProxy:
    """Serves `/realtime/v1` in the place of `RealtimeApp`, by the process at `url`.

    That process gets the client's address in the header `address_header`, whatever the client sends in it.
    """

    server = None

    def __init__(self, url: str, address_header: str, max_frame_bytes: int) -> None:
        self._url = url.rstrip("/")
        self._address_header = address_header.lower()
        self._max_frame_bytes = max_frame_bytes
        self._http: httpx.AsyncClient
        self.app = Starlette(
            routes=[
                WebSocketRoute("/websocket", self._socket),
                Route("/{path:path}", self._request, methods=["GET", "POST", "OPTIONS"]),
            ]
        )

    async def start(self, _role_of_key: Callable[[str], str | None], _verify: Callable[[str], dict[str, Any]]) -> None:
        """Start to serve. The process at the other end checks keys and tokens."""
        self._http = httpx.AsyncClient(timeout=OPEN_SECONDS, verify=not self._url.startswith("http:"), trust_env=False)

    async def stop(self) -> None:
        await self._http.aclose()

    async def _request(self, request: Request) -> Response:
        try:
            answer = await self._http.request(
                request.method, self._target(request), headers=self._headers(request), content=request.stream()
            )
        except httpx.HTTPError as error:
            return _unavailable(error)
        return Response(answer.content, answer.status_code, _passed_on(answer.headers))

    async def _socket(self, websocket: WebSocket) -> None:
        try:
            upstream = await connect(
                "ws" + self._target(websocket).removeprefix("http"),
                additional_headers=self._headers(websocket),
                compression=None,
                max_size=self._max_frame_bytes,
                open_timeout=OPEN_SECONDS,
                ping_interval=None,  # Realtime's clients have heartbeats of their own
                proxy=None,
            )
        except InvalidStatus as error:
            answer = error.response
            return await websocket.send_denial_response(
                Response(bytes(answer.body or b""), answer.status_code, _passed_on(answer.headers))
            )
        except (OSError, InvalidHandshake) as error:
            return await websocket.send_denial_response(_unavailable(error))
        async with upstream:
            await websocket.accept()
            await _pass_messages(websocket, upstream)
        return None

    def _target(self, connection: HTTPConnection) -> str:
        path = connection.scope["raw_path"].decode("latin-1")
        query = connection.scope["query_string"].decode("latin-1")
        return f"{self._url}{path}?{query}" if query else f"{self._url}{path}"

    def _headers(self, connection: HTTPConnection) -> dict[str, str]:
        headers = {
            name: value
            for name, value in _passed_on(connection.headers).items()
            if not name.startswith("sec-websocket")
        }
        headers.pop(self._address_header, None)
        if connection.client is not None:
            headers[self._address_header] = connection.client.host
        return headers


async def _pass_messages(websocket: WebSocket, upstream: ClientConnection) -> None:
    """Pass messages on in both directions until one side has closed; then close the other one with the same code."""
    to_client = asyncio.create_task(_to_client(websocket, upstream))
    to_realtime = asyncio.create_task(_to_realtime(websocket, upstream))
    try:
        await asyncio.wait((to_client, to_realtime), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_until_done([to_client, to_realtime])
    left = None if to_realtime.cancelled() else to_realtime.result()
    if left is not None:
        await upstream.close(_sendable(left, 1000))
        return
    await upstream.wait_closed()
    with suppress(RuntimeError, WebSocketDisconnect):  # the client has left meanwhile
        await websocket.close(_sendable(upstream.close_code, SERVICE_RESTART))


async def _to_client(websocket: WebSocket, upstream: ClientConnection) -> None:
    with suppress(ConnectionClosed, WebSocketDisconnect):
        async for message in upstream:
            await websocket.send({"type": "websocket.send", "bytes" if isinstance(message, bytes) else "text": message})


async def _to_realtime(websocket: WebSocket, upstream: ClientConnection) -> int | None:
    """The code with which the client has left; None when Realtime has closed."""
    with suppress(ConnectionClosed):
        while (event := await websocket.receive())["type"] != "websocket.disconnect":
            text: str | None = event.get("text")
            await upstream.send(text if text is not None else event["bytes"])
        return event.get("code", 1000)
    return None


def _sendable(code: int | None, otherwise: int) -> int:
    return otherwise if code is None or code in NOT_SENT else code


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in OF_ONE_CONNECTION}


def _unavailable(error: Exception) -> Response:
    logger.warning("The process with Realtime cannot be reached: %s", error, extra={"action": "realtime_unreachable"})
    return JSONResponse({"error": "Realtime is not available"}, 503, {"retry-after": "1"})
