"""The last check of `onsembl supabase check`: a change of a row reaches a signed-in subscriber.

The subscriber is a user who exists for a few seconds, and joins a private channel as the page does. The row is one that
nobody else sees.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, cast
from uuid import UUID

import httpx
from supabase import AsyncClient, AsyncClientOptions

from onsembl.cli.server.check_findings import CheckFailed, first_line
from onsembl.protocol.states import Role
from onsembl.realtime.hosted import HostedProject
from onsembl.realtime.hosted_operators import CHECK_DOMAIN
from onsembl.sql import supabase_setup as setup
from onsembl.sql.database import connect
from onsembl.sql.published_tables import EVERY_PUBLISHED
from realtime import RealtimeChannelConfig, RealtimePostgresChangesListenEvent, RealtimeSubscribeStates

REALTIME_OFF = "Enable Realtime for the project (Project Settings → Realtime), and check SUPABASE_URL and the keys."
JOIN_REFUSED = "Run `onsembl supabase setup`, which creates the policy on realtime.messages."
NOT_FOLLOWED = "Run `onsembl supabase setup`, and do not exclude the schema `onsembl` from Realtime."


async def round_trip(project: HostedProject, database_url: str, wait: float) -> str:
    """Change a row and wait at most `wait` seconds until the subscriber receives the change; return how long it took.

    Raises CheckFailed, and the errors of the clients.
    """
    # Our own HTTP client, because the Supabase clients do not close theirs.
    async with httpx.AsyncClient(timeout=30.0) as http:
        options = AsyncClientOptions(persist_session=False, auto_refresh_token=False, httpx_client=http)
        email, password = f"{secrets.token_hex(8)}{CHECK_DOMAIN}", secrets.token_urlsafe(18)
        admin = AsyncClient(project.url, project.secret_key, options).auth.admin
        created = await admin.create_user(
            {"email": email, "password": password, "email_confirm": True, "app_metadata": {"role": Role.VIEWER.value}}
        )
        try:
            client = AsyncClient(project.url, project.publishable_key, options)
            session = (await client.auth.sign_in_with_password({"email": email, "password": password})).session
            assert session is not None, "a sign-in without an error has a session"
            async with _sockets(client, session.access_token):
                return await _receive_change(client, database_url, UUID(created.user.id), wait)
        finally:
            await admin.delete_user(created.user.id)


@asynccontextmanager
async def _sockets(client: AsyncClient, access_token: str) -> AsyncGenerator[None]:
    client.realtime.max_retries = 1  # a refused socket is reported at once
    await client.realtime.set_auth(access_token)
    try:
        yield
    finally:
        with suppress(Exception):  # the socket may never have been open
            await client.realtime.close()


async def _receive_change(client: AsyncClient, database_url: str, user_id: UUID, wait: float) -> str:
    subscription = _Subscription(client)
    await subscription.begin(wait)
    async with await connect(database_url, autocommit=True) as conn:
        began = time.monotonic()
        try:
            subscription.expect(await setup.add_probe(conn, user_id))
            async with asyncio.timeout(wait):
                await subscription.seen.wait()
            return f"{(time.monotonic() - began) * 1000:.0f} ms"
        except TimeoutError as error:
            raise CheckFailed(f"a change did not arrive within {wait:.0f} s", NOT_FOLLOWED) from error
        finally:
            await setup.remove_probes(conn, user_id)


class _Subscription:
    """A private channel with the published tables."""

    def __init__(self, client: AsyncClient) -> None:
        loop = asyncio.get_running_loop()
        config = RealtimeChannelConfig(private=True, broadcast=None, presence=None)
        self._channel = client.channel(f"onsembl-check-{secrets.token_hex(4)}", {"config": config})
        self._joined: asyncio.Future[None] = loop.create_future()
        self._flowing: asyncio.Future[None] = loop.create_future()
        self._received: set[str] = set()
        self._expected = ""
        self.seen = asyncio.Event()
        for table in EVERY_PUBLISHED:
            self._channel.on_postgres_changes(
                RealtimePostgresChangesListenEvent.Insert, self._changed, table=table, schema="onsembl"
            )
        self._channel.on_system(self._told)

    async def begin(self, wait: float) -> None:
        """Join, and wait until changes flow. Raises CheckFailed."""
        try:
            async with asyncio.timeout(wait):
                await self._channel.subscribe(self._state)
                await self._joined
                await self._flowing
        except TimeoutError as error:
            raise CheckFailed(f"Realtime did not answer within {wait:.0f} s", REALTIME_OFF) from error
        except (CheckFailed, asyncio.CancelledError):
            raise
        except Exception as error:  # the client raises whatever its socket has raised
            raise CheckFailed(f"Realtime refused the socket: {first_line(error)}", REALTIME_OFF) from error

    def expect(self, id: UUID) -> None:
        """Wait for the row with this id, which may have arrived already."""
        self._expected = str(id)
        self._look()

    def _state(self, state: RealtimeSubscribeStates, error: Exception | None) -> None:
        if state is RealtimeSubscribeStates.SUBSCRIBED:
            if not self._joined.done():
                self._joined.set_result(None)
            return
        reason = _reason(error) or state.value
        if not self._joined.done():
            text = f"Realtime refused the page's private channel: {reason}"
            self._joined.set_exception(CheckFailed(text, JOIN_REFUSED))
        elif not self._flowing.done():
            self._flowing.set_exception(CheckFailed(f"Realtime does not follow the tables: {reason}", NOT_FOLLOWED))

    def _told(self, _message: object) -> None:
        if not self._flowing.done():
            self._flowing.set_result(None)

    def _changed(self, change: Mapping[str, Any]) -> None:
        self._received.add(str(change["data"]["record"].get("id")))
        self._look()

    def _look(self) -> None:
        if self._expected in self._received:
            self.seen.set()


def _reason(error: Exception | None) -> str:
    """The text of an error that the server sent as JSON."""
    text = str(error or "")
    with suppress(ValueError):
        sent = json.loads(text)
        if isinstance(sent, dict):
            fields = cast("dict[str, Any]", sent)
            return str(fields.get("reason") or fields.get("message") or text)
    return text
