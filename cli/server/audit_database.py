"""The audit log by the database: on the control center's machine, also while the API does not respond."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, cast

from onsembl.cli.output import print_line
from onsembl.cli.server.actor import command_line_actor
from onsembl.fleet import audit_export
from onsembl.fleet.audit_seal import verification
from onsembl.sql import audit, audit_log
from onsembl.sql.audit_log import EventFilter
from onsembl.sql.database import connect

MAX_FAULTS = 20
"""Unreadable values that an export names; in the file, each is an error in its place."""


def verify_log(url: str, expected: Iterable[str], progress: Callable[[int], None]) -> dict[str, Any]:
    """Verify the whole log; return the result in the form of the REST API.

    `progress` receives the number of rows so far, and 0 at the end.
    """

    async def run() -> dict[str, Any]:
        async with await connect(url, role="onsembl_api", autocommit=True) as conn:
            return await verification(conn, frozenset(expected), progress)

    try:
        return asyncio.run(run())
    finally:
        progress(0)


def export_log(url: str, filter: Mapping[str, Any], format: str, write: Callable[[bytes], object]) -> int:
    """Write the rows that `filter` selects, and record the export in the log; return the number of rows."""
    return asyncio.run(_export(url, EventFilter(**filter), cast(audit_export.Format, format), write))


async def _export(url: str, filter: EventFilter, format: audit_export.Format, write: Callable[[bytes], object]) -> int:
    count, faults = 0, list[str]()
    async with await connect(url, role="onsembl_api") as conn:
        detail = {name: str(value) for name in filter.__slots__ if (value := getattr(filter, name)) is not None}
        event = audit.Event(actor=command_line_actor(), action="audit.exported", detail={**detail, "format": format})
        await audit.write(conn, event)
        await conn.commit()
        write(audit_export.head(format))
        async with aclosing(audit_log.all_rows(conn, filter)) as rows:
            async for row in rows:
                write(audit_export.line(row, format, faults.append))
                count += 1
    for fault in faults[:MAX_FAULTS]:
        print_line(f"Unreadable: {fault}.", err=True)
    if len(faults) > MAX_FAULTS:
        print_line(f"… and {len(faults) - MAX_FAULTS} more.", err=True)
    return count
