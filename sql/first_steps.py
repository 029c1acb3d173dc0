"""What has been done with a control center for the first time, read from the rows that it left."""

from __future__ import annotations

from dataclasses import dataclass

from onsembl.sql.database import Connection

DEMO_LABEL = "demo"
"""The label of the agents of `onsembl up --demo`."""


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """Each step is whether a row shows that it was done. Deleted and expired rows show nothing any more."""

    demo_seen: bool
    agent_connected: bool
    command_sent: bool
    request_answered: bool


async def done(conn: Connection) -> FirstSteps:
    """What has been done: the demo ran, an agent beside the demo's has connected, an operator has sent a
    command, and an operator has answered a request."""
    cursor = await conn.execute(
        """select
               exists (select from agents where %(demo)s = any(labels)) as demo_seen,
               exists (select from agents where epoch > 0 and not %(demo)s = any(labels)) as agent_connected,
               exists (select from commands where requested_by is not null) as command_sent,
               exists (select from attention where answered_by_kind = 'operator') as request_answered""",
        {"demo": DEMO_LABEL},
    )
    row = await cursor.fetchone()
    assert row is not None
    return FirstSteps(**row)
