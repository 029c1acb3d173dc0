"""The last lines of running commands, kept in memory and written together every few seconds.

A write for each line would let one program that writes much hold the database, and every browser, up. Of each agent
only the newest lines of its newest commands wait here, and one statement writes those of many agents.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.sql import steps
from onsembl.sql.database import DATABASE_ERRORS, Pool

logger = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
MAX_AGENTS = 200
"""The lines of how many agents one write has, at most; the others wait for the next one."""
MAX_COMMANDS = 4
"""Of how many commands of one agent lines may wait: of the running one, and of those before that have just ended."""


class LastLines:
    """Keeps lines in memory; `write_forever` writes them, and `write` the rest when the process stops."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: dict[AgentId, dict[CommandId, str]] = {}

    def put(self, agent_id: AgentId, command_id: CommandId, text: str) -> None:
        """Keep the last line of an agent's command until it is written; an earlier one of the command is dropped."""
        lines = self._waiting.setdefault(agent_id, {})
        lines.pop(command_id, None)
        lines[command_id] = text
        while len(lines) > MAX_COMMANDS:
            del lines[next(iter(lines))]

    async def write_forever(self) -> None:
        """Write every `WRITE_SECONDS`, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write the lines of the `MAX_AGENTS` agents that have waited longest. While the database is unavailable they
        are dropped: newer ones come, and a line is no more than a hint."""
        agents = list(islice(self._waiting, MAX_AGENTS))
        lines = [(agent_id, *line) for agent_id in agents for line in self._waiting.pop(agent_id).items()]
        if not lines:
            return
        try:
            async with self._pool.connection() as conn:
                await steps.write_last_lines(conn, lines)
        except DATABASE_ERRORS as error:
            logger.warning("Last lines could not be written: %s", error, extra={"action": "last_lines_not_written"})
