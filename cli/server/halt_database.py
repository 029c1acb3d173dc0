"""The emergency stop by the database: on the control center's machine, also while the API does not respond."""

from __future__ import annotations

import asyncio
from typing import Any

from onsembl.cli.errors import CliError
from onsembl.cli.server.actor import command_line_actor
from onsembl.fleet.halt import begin_halt, halt_status, lift_halt
from onsembl.sql import halts
from onsembl.sql.database import connect

Status = dict[str, Any]


class HaltDatabase:
    """Begins, reads and lifts the emergency stop in the database, as this machine's user."""

    def __init__(self, url: str, halt_seconds: float) -> None:
        self._url = url
        self._halt_seconds = halt_seconds

    def __enter__(self) -> HaltDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, reason: str | None) -> Status:
        """Halt the fleet; return the progress."""
        return asyncio.run(self._begin(reason))

    def read(self) -> Status:
        """The progress of the stop in force."""
        return asyncio.run(self._read())

    watch = read

    def lift(self) -> Status:
        """Lift the halt. Raises CliError when there is none."""
        return asyncio.run(self._lift())

    async def _begin(self, reason: str | None) -> Status:
        async with await connect(self._url, role="onsembl_api") as conn:
            halt, _ = await begin_halt(conn, command_line_actor(), reason, self._halt_seconds)
            return await halt_status(conn, halt)

    async def _read(self) -> Status:
        async with await connect(self._url, role="onsembl_api") as conn:
            return await halt_status(conn, await halts.in_force(conn))

    async def _lift(self) -> Status:
        async with await connect(self._url, role="onsembl_api") as conn:
            halt = await lift_halt(conn, command_line_actor())
            if halt is None:
                raise CliError("The fleet is not halted.")
            return await halt_status(conn, halt)
