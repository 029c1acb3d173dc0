"""Telling an agent how far the archive has its bytes, and which of them it should send again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from onsembl.api.terminals.terminal import Terminal
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.messages import Acknowledged, Resend, ServerToAgentMessage


async def acknowledge(
    terminal: Terminal,
    send: Callable[[ServerToAgentMessage], Awaitable[None]],
    close: Callable[[CloseCode, str], None],
) -> None:
    """Say so whenever the archive has more, until cancelled, or until it takes nothing of this stream any more."""
    log, archived, said = terminal.log, asyncio.Event(), 0
    log.on_archived = archived.set
    archived.set()
    try:
        while True:
            await archived.wait()
            archived.clear()
            if log.refused:
                close(CloseCode.STREAM_REJECTED, "the archive has no place for this stream any more")
                return
            # Another instance may have archived more than came here: that is said when the agent gets there.
            upto = min(log.backlog.start, terminal.inbox.end)
            if upto > said:
                said = upto
                await send(Acknowledged(offset=said))
            if (again := log.backlog.resend_offset()) is not None:
                await send(Resend(offset=again))
    finally:
        if log.on_archived == archived.set:
            log.on_archived = None
