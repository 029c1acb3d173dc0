"""Procrastinate's connection to the database: the queue's lane of the process's pool, and the process's listener."""

from __future__ import annotations

from collections.abc import Iterable

from procrastinate import PsycopgConnector
from procrastinate.connector import Notify

from onsembl.fleet.listener import Listener


class SharedConnector(PsycopgConnector):
    """A connector that listens over the process's one listening connection, not over one of its own."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._listener = listener

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Call `on_notification` for each notification until cancelled. The worker polls for what it has missed."""

        async def on_notify(channel: str, payload: str) -> None:
            await on_notification(channel=channel, payload=payload)

        async def on_listening() -> None:
            return

        await self._listener.listen(list(channels), on_notify, on_listening)
