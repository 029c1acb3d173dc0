"""What every API instance is told at once."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from onsembl.sql import instances
from onsembl.sql.database import Connection


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """As JSON, on a channel that all instances listen to.

    `operator_changed`: this operator was shut out, or let in again. `keys_changed`: agents' tokens are signed by
    another key, or live longer, or those of some key are not good any more; `operator_keys_changed`: those
    of operators, which the built-in sign-in signs. `halt_changed`: the fleet was halted, or
    the halt was lifted.
    """

    op: Literal["operator_changed", "keys_changed", "operator_keys_changed", "halt_changed"]
    operator_id: UUID | None = None


async def announce(conn: Connection, announcement: Announcement) -> None:
    """Tell all instances, once the transaction is committed."""
    await instances.announce(conn, msgspec.json.encode(announcement).decode())
