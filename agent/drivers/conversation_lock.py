"""The lock on a conversation: one process at a time works in it, whichever agent of this user has started it.

Coding CLIs have no such lock: two of them that continue one conversation write two branches into one transcript.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

IN_USE = "Another agent of this machine works in this conversation. Wait for its turn, or begin a new conversation."


class ConversationInUse(Exception):
    """Another agent works in the conversation."""

    def __init__(self) -> None:
        super().__init__(IN_USE)


@contextmanager
def held(conversation: str | None) -> Generator[None]:
    """Hold the lock on the conversation of this id, if any. Raises ConversationInUse.

    Where the lock's file cannot be written, the turn runs without the lock.
    """
    if conversation is None:
        yield
        return
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    try:
        folder = state / "onsembl"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(folder / "conversations.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        logger.warning("A conversation cannot be locked: %s", error, extra={"action": "lock_failed"})
        yield
        return
    try:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(conversation))
        except (BlockingIOError, PermissionError) as error:
            raise ConversationInUse from error
        yield
    finally:
        os.close(file)


def _place(conversation: str) -> int:
    """The byte of the locks' file that is the conversation's: so the file stays empty, and is one for all."""
    return int.from_bytes(hashlib.sha256(conversation.encode()).digest()[:7], "big")
