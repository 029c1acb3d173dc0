"""Server-sent events (`text/event-stream`): an answer without an end, whose events are read as fast as the client takes
them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from onsembl.api.terminals.sessions import CLOSE_SECONDS, MAX_REASON, ConnectionRejected
from onsembl.protocol.close_codes import CloseCode
from onsembl.sql.cancellation import cancel_until_done

MEDIA_TYPE = "text/event-stream"
END_STREAM = "onsembl.end_stream"
"""The key in an ASGI scope of a function that ends the stream, which the server calls when it stops."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
GOING_AWAY = "The server stops; follow again."


def event_text(id: int, kind: str, data: bytes) -> bytes:
    """One event as text; `data` is JSON in one line."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (id, kind.encode(), data)


def closed_text(code: CloseCode, reason: str) -> bytes:
    """The last event of a stream that the server ends: why, and whether to follow again needs a person first."""
    data = {"code": code, "reason": reason[:MAX_REASON], "permanent": code.is_permanent}
    return b"event: closed\ndata: %s\n\n" % orjson.dumps(data)


def heartbeat_text(id: int) -> bytes:
    """A comment, which keeps the connection open, and the id after which the client continues."""
    return b": heartbeat\nid: %d\n\n" % id


class EventStream(Response):
    """Sends what `write` writes, until the client leaves, `write` raises ConnectionRejected, or `closed` has it. The
    last event, `closed`, says why. `left` is called at the end."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        write: Callable[[Callable[[bytes], Awaitable[None]]], Coroutine[Any, Any, None]],
        closed: asyncio.Future[None],
        left: Callable[[], None],
    ) -> None:
        super().__init__(None, headers=HEADERS)
        del self.headers["content-length"]
        self._write, self._closed, self._left = write, closed, left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""

        async def send_text(text: bytes) -> None:
            await send({"type": "http.response.body", "body": text, "more_body": True})

        async def leave() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        scope[END_STREAM] = self._end
        tasks: list[asyncio.Task[None]] = []
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            tasks += [asyncio.create_task(self._write(send_text)), asyncio.create_task(leave())]
            done, _ = await asyncio.wait([*tasks, self._closed], return_when=asyncio.FIRST_COMPLETED)
            await cancel_until_done(tasks)
            with suppress(TimeoutError):  # a client that reads nothing does not read this either
                async with asyncio.timeout(CLOSE_SECONDS):
                    try:
                        for each in done:
                            each.result()
                    except ConnectionRejected as rejected:
                        await send_text(closed_text(rejected.code, rejected.reason))
                    await send({"type": "http.response.body", "body": b""})
        finally:
            self._left()
            if not self._closed.cancel():
                self._closed.exception()  # it may have come with another end
            await cancel_until_done(tasks)

    def _end(self) -> None:
        if not self._closed.done():
            self._closed.set_exception(ConnectionRejected(CloseCode.GOING_AWAY, GOING_AWAY))
