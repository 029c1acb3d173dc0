"""Up the ladder: signals to a command's processes, until none is left."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from onsembl.agent.process.escalation import Ladder
from onsembl.agent.process.reaper import Reaper
from onsembl.agent.process.tree import ProcessTree
from onsembl.protocol.messages import EscalationStage

RECHECK_SECONDS = 0.02
HURRY_SECONDS = 0.1
"""How soon a ladder that was told to hurry does."""


async def climb(
    tree: ProcessTree,
    ladder: Ladder,
    reaper: Reaper,
    *,
    leader: asyncio.Future[int] | None = None,
    interrupt: Callable[[], None] = lambda: None,
    on_rung: Callable[[EscalationStage, list[int]], None] = lambda _rung, _left: None,
) -> list[int]:
    """Until nothing of the tree is left; the pids of what would not die, if any.

    `leader` is done when the command's own program has ended: while it lives its group is signalled, as a terminal
    would, and afterwards every process by itself. `on_rung` hears of each rung with the pids of what is alive
    just after it.
    """
    while True:
        leader_lives = leader is not None and not leader.done()
        if not leader_lives:
            if tree.gone():
                return []
            ladder.leader_is_gone(time.monotonic())
        rung = ladder.climb(time.monotonic())
        if rung is not None:
            _act(rung, tree, interrupt, everywhere=not leader_lives)
            left = [process.pid for process in tree.alive()]
            on_rung(rung, left)
            if rung == "failed":
                return left
        elif ladder.sweeping:
            tree.signal_all(signal.SIGKILL)
        longest = max(0.0, ladder.deadline - time.monotonic())
        if leader_lives:
            assert leader is not None
            await asyncio.wait({leader}, timeout=min(longest, HURRY_SECONDS))
        else:
            await reaper.wait_for_some_end(min(longest, RECHECK_SECONDS))


def _act(rung: EscalationStage, tree: ProcessTree, interrupt: Callable[[], None], *, everywhere: bool) -> None:
    send = tree.signal_all if everywhere else tree.signal_group
    match rung:
        case "interrupt":
            interrupt()
        case "sigint":
            send(signal.SIGINT)
        case "sigterm":
            send(signal.SIGTERM)
            send(signal.SIGCONT)  # one that is stopped cannot obey
        case "sigkill":
            send(signal.SIGKILL)
        case "sweep":
            tree.signal_all(signal.SIGKILL)
        case "failed":
            pass
