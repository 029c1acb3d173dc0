"""Answers the server's questions about files of the working folder, beside everything else that the agent does."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from onsembl.agent.errors import AgentError
from onsembl.agent.working_folder import WorkingFolder
from onsembl.protocol.files import Look, Seen, parts_of
from onsembl.protocol.messages import Message

logger = logging.getLogger(__name__)

MAX_LOOKS = 4
"""How many questions are answered at a time. A folder of a network may keep each waiting."""
NOT_SHOWN = "The agent was not started with --files."
BUSY = "The agent is looking at other files. Try again."


class Looks:
    """`send` passes a message to the server. Without `shown`, the agent shows no file."""

    def __init__(self, folder: Path, send: Callable[[Message], None], *, shown: bool) -> None:
        """Raises AgentError when the folder cannot be opened."""
        try:
            self._folder = WorkingFolder(folder) if shown else None
        except OSError as error:
            raise AgentError(f"The working directory {folder} cannot be opened: {error.strerror}.") from error
        self._send = send
        self._looking = 0

    @property
    def shown(self) -> bool:
        """Whether the agent shows files."""
        return self._folder is not None

    def look(self, look: Look) -> None:
        """Answer a question, later."""
        if self._folder is None or self._looking >= MAX_LOOKS:
            reason = NOT_SHOWN if self._folder is None else BUSY
            self._answer(look, Seen(path=look.path, kind="refused", reason=reason))
            return
        self._looking += 1
        # A thread of its own, which the program's end does not wait for: a network's disk may never answer.
        arguments = (self._folder, look, asyncio.get_running_loop())
        threading.Thread(target=self._look, args=arguments, name="look", daemon=True).start()

    def close(self) -> None:
        """Answer no more questions."""
        if self._folder is not None and not self._looking:
            self._folder.close()
        self._folder = None

    def _look(self, folder: WorkingFolder, look: Look, loop: asyncio.AbstractEventLoop) -> None:
        try:
            seen = folder.look(look.path, look.rules)
        except Exception:
            logger.exception("A file cannot be shown", extra={"action": "look_failed"})
            seen = Seen(path=look.path, kind="refused", reason="The agent failed by an internal error.")
        with suppress(RuntimeError):  # the program has ended
            loop.call_soon_threadsafe(self._looked, look, seen)

    def _looked(self, look: Look, seen: Seen) -> None:
        self._looking -= 1
        self._answer(look, seen)

    def _answer(self, look: Look, seen: Seen) -> None:
        for part in parts_of(look.request_id, seen):
            self._send(part)
