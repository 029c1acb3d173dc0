"""Wakes who waits for a change of the requests to start agents: the hosts, and the admins who asked."""

from __future__ import annotations

from typing import NoReturn

from onsembl.api.notifier import Notifier
from onsembl.fleet.listener import Listener
from onsembl.sql.hosts import CHANNEL


class HostRequests:
    """The changes of all hosts' requests, at any instance."""

    def __init__(self) -> None:
        self._notifier = Notifier()
        self.changes = 0
        """How often something may have changed: who reads after this number has changed misses nothing."""

    async def listen(self, listener: Listener) -> NoReturn:
        """Learn of changes, until cancelled."""

        async def on_notify(_channel: str, _payload: str) -> None:
            self.wake()

        async def on_listening() -> None:
            self.wake()

        await listener.listen([CHANNEL], on_notify, on_listening)

    def wake(self) -> None:
        """Have everybody who waits read again."""
        self.changes += 1
        self._notifier.notify_all()

    async def wait(self, seen: int, seconds: float) -> None:
        """Wait until `changes` is not `seen`, for at most `seconds`."""
        if self.changes == seen:
            await self._notifier.wait(seconds)
