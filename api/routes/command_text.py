"""What requests say and for whom, as agents' lines take it; what does not fit is answered as a problem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from psycopg.rows import DictRow

from onsembl.api.http.models import CommandRequest
from onsembl.api.http.problems import Problem
from onsembl.fleet.command_text import Said, WordingError, word
from onsembl.fleet.commands import NoTargetError, aimed_at
from onsembl.sql.database import Connection

WORDING_PROBLEM = "urn:onsembl:problem:wording"
"""The `type` of the problem whose `fields` say what is wrong with which variable of a preset."""


async def worded(conn: Connection, body: CommandRequest, kinds: Iterable[str]) -> Said:
    """What agents of these kinds are told. Raises Problem 422."""
    try:
        return await word(
            conn,
            text=body.text,
            preset=body.preset,
            values=body.values,
            priority=body.priority,
            limits=body.limits,
            kinds=kinds,
        )
    except WordingError as error:
        raise Problem(422, str(error), type=WORDING_PROBLEM, fields=error.fields) from error


async def aimed(conn: Connection, target: Mapping[str, Any]) -> list[DictRow]:
    """The agents that are meant. Raises Problem 404 for one that is not there, 409 when there is none."""
    try:
        return await aimed_at(conn, target)
    except NoTargetError as error:
        raise Problem(404 if "agents" in target else 409, str(error)) from error
