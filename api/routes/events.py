"""The event feed: pages of events, or all of them as they happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from msgspec import to_builtins

from onsembl.api.auth.operator import Operator
from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.event_stream import MEDIA_TYPE, EventStream, event_text, heartbeat_text
from onsembl.api.http.models import NoBody
from onsembl.api.http.problems import Problem
from onsembl.api.routes.events_models import MAX_EVENTS, Events, EventsQuery
from onsembl.api.services import Services
from onsembl.api.terminals.sessions import DATABASE_UNAVAILABLE, EXPIRED, KEY_REMOVED, ConnectionRejected, rejection_by
from onsembl.fleet.events import actions_for, give_positions, page_for
from onsembl.fleet.json_rows import to_json
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, OperatorId
from onsembl.protocol.states import Role
from onsembl.sql import events
from onsembl.sql.database import DATABASE_ERRORS
from onsembl.sql.events import EventFilter

EXPIRED_CURSOR = "urn:onsembl:problem:events-expired"
"""The `type` of the problem that the events after a cursor are not all kept."""
LAST_EVENT_ID = "Last-Event-ID"
MAX_HEARTBEAT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events of the feed, and the cursor after them; `more` if there are more now."""

    events: list[dict[str, Any]]
    next_after: int
    more: bool


async def list_events(call: Call[NoBody]) -> object:
    """A page, or the stream."""
    query = call.query(EventsQuery)
    agent_id = AgentId(query.agent_id) if query.agent_id is not None else None
    wanted = EventFilter(kind=query.kind, agent_id=agent_id)
    after = query.after
    streams = MEDIA_TYPE in call.request.headers.get("accept", "")
    if streams and (last_id := call.request.headers.get(LAST_EVENT_ID)) is not None:
        after = _cursor(last_id)
    await give_positions(call.services.pool)
    if after == "latest":
        async with call.services.pool.connection() as conn:
            after = (await events.read_feed(conn)).last
    if not streams:
        page = await _read(call.services, wanted, after, query.limit)
        return {"events": page.events, "next_after": page.next_after, "more": page.more}
    return await EventFollower(call, wanted).stream(after)


def _cursor(last_id: str) -> int:
    """The position in a header. Raises Problem 400."""
    if not last_id.isdecimal() or not last_id.isascii() or len(last_id) > 18:
        raise Problem(400, f"{LAST_EVENT_ID} is not the id of an event of this feed.")
    return int(last_id)


async def _read(services: Services, wanted: EventFilter, after: int | None, limit: int) -> EventPage:
    """The events after a cursor. Raises Problem 410."""
    async with services.pool.connection() as conn:
        feed, rows = await events.page(conn, wanted, after, limit + 1)
    if after is not None and not feed.deleted <= after <= feed.last:
        raise Problem(
            410,
            "Events after this cursor are no longer kept, or it is of another feed. Begin again: without `after` from "
            "the oldest event that is kept, or with `after=latest` from now on.",
            type=EXPIRED_CURSOR,
            oldest=feed.deleted,
            latest=feed.last,
        )
    more = len(rows) > limit
    shown = [_shown(row) for row in rows[:limit]]
    return EventPage(shown, shown[-1]["position"] if more else feed.last, more)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    actions = [to_builtins(action) for action in actions_for(row)]
    del row["is_open"]
    if isinstance(row["detail"], dict):
        row["detail"] = {"kind": row["kind"], **row["detail"]}
    return {**row, "page": page_for(row), "actions": actions}


class EventFollower:
    """One client that follows the feed, from its own place: events wait in the database, and not in memory."""

    def __init__(self, call: Call[NoBody], wanted: EventFilter) -> None:
        self._services = call.services
        self._token = call.token
        self._operator: Operator = call.signed_in
        self._address = call.address
        self._wanted = wanted
        self._heartbeat = min(call.services.settings.heartbeat, MAX_HEARTBEAT_SECONDS)
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def operator_id(self) -> OperatorId:
        return self._operator.id

    def close(self, code: CloseCode, reason: str) -> None:
        """End the stream with this code."""
        if not self._closed.done():
            self._closed.set_exception(ConnectionRejected(code, reason))

    async def authorize_again(self) -> None:
        """End the stream unless the access token still allows it."""
        try:
            await self._authorize()
        except ConnectionRejected as rejected:
            self.close(rejected.code, rejected.reason)

    async def stream(self, after: int | None) -> EventStream:
        """The answer. Raises Problem 410, 429 and 503."""
        feed = self._services.event_feed
        feed.admit(self)
        try:
            seen = feed.passes
            first = await _read(self._services, self._wanted, after, MAX_EVENTS)
            await self._services.authorize(self._token, Role.VIEWER, self._address)  # it may have ended meanwhile
        except BaseException:
            feed.followers.discard(self)
            raise

        async def write(send: Callable[[bytes], Awaitable[None]]) -> None:
            await self._write(send, first, seen)

        return EventStream(write, self._closed, lambda: feed.followers.discard(self))

    async def _write(self, send: Callable[[bytes], Awaitable[None]], page: EventPage, seen: int) -> None:
        feed = self._services.event_feed
        await send(heartbeat_text(page.next_after))
        while True:
            if page.events:
                await send(b"".join(map(self._text, page.events)))
            if not page.more:
                while feed.passes == seen:
                    await feed.wait(seen, min(self._heartbeat, self._seconds_left()))
                    if feed.passes == seen:
                        await self._authorize()
                        await send(heartbeat_text(page.next_after))
            self._seconds_left()
            seen = feed.passes
            try:
                page = await _read(self._services, self._wanted, page.next_after, MAX_EVENTS)
            except DATABASE_ERRORS as error:
                raise ConnectionRejected(CloseCode.INTERNAL_ERROR, DATABASE_UNAVAILABLE) from error
            except Problem as problem:
                raise ConnectionRejected(CloseCode.STREAM_REJECTED, problem.detail) from problem

    def _text(self, event: dict[str, Any]) -> bytes:
        data = to_json(event, lambda fault: self._services.unreadable.record("GET /v1/events", fault))
        return event_text(event["position"], event["kind"], data)

    def _seconds_left(self) -> float:
        """For how long the access token is valid. Raises ConnectionRejected when it is not."""
        left = self._operator.expires_at - time.time()
        if left <= 0:
            raise ConnectionRejected(CloseCode.TOKEN_EXPIRED, EXPIRED)
        if not self._services.operator_tokens.knows(self._operator):
            raise ConnectionRejected(CloseCode.TOKEN_EXPIRED, KEY_REMOVED)
        return left

    async def _authorize(self) -> None:
        self._seconds_left()
        try:
            await self._services.authorize(self._token, Role.VIEWER, self._address)
        except Problem as problem:
            raise rejection_by(problem) from problem
        except DATABASE_ERRORS as error:
            raise ConnectionRejected(CloseCode.INTERNAL_ERROR, DATABASE_UNAVAILABLE) from error


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/events",
        handler=list_events,
        summary="List events, oldest first, or follow them as server-sent events",
        answer=Events,
        streams=MEDIA_TYPE,
        query=EventsQuery,
        problems=(410,),
    ),
]
