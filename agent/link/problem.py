"""Why the agent's folder cannot be written, and the wait until it can: a full disk has room again some time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from onsembl.agent.rendering.text import printable
from onsembl.protocol.field_types import MAX_PROBLEM_BYTES

logger = logging.getLogger(__name__)

ROOM_SECONDS = 2.0
"""How often a folder that could not be written is tried again."""


class FolderProblem:
    """An agent with a problem takes no command. `on_change` is called when the problem begins, and when it is over."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._begun = asyncio.Event()
        self.text: str | None = None
        """The first error, at most `MAX_PROBLEM_BYTES`; None while the folder can be written."""

    def report(self, text: str) -> None:
        """Note an error in writing."""
        if self.text is not None:
            return
        self.text = " ".join(printable(text).split()).encode()[:MAX_PROBLEM_BYTES].decode(errors="ignore")
        logger.error("%s. The agent goes on by itself when there is room.", self.text, extra={"action": "no_room"})
        self._begun.set()
        self._on_change()

    async def watch(self, retries: Sequence[Callable[[], bool]]) -> None:
        """End each problem when every one of `retries` succeeds. Runs until it is cancelled."""
        while True:
            await self._begun.wait()
            await asyncio.sleep(ROOM_SECONDS)
            # Each of them is tried: output that waits needs no other file.
            if not all([retry() for retry in retries]):
                continue
            self._begun.clear()
            self.text = None
            logger.warning("The agent's folder can be written again", extra={"action": "room_again"})
            self._on_change()
