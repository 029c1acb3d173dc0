"""The search in the history of commands."""

from __future__ import annotations

import pytest

from onsembl.sql.command_history import HistoryFilter
from onsembl.sql.database import connect


@pytest.mark.parametrize("index", ["commands_trigrams", "commands_note_trigrams"])
async def test_words_are_found_by_an_index_in_texts_and_notes(database_url: str, index: str):
    """An index finds words in texts and notes, so a search does not read every command."""
    condition, parameters = HistoryFilter(terms=("licence",)).where()
    async with await connect(database_url) as conn:
        await conn.execute("set local enable_seqscan = off")
        cursor = await conn.execute(f"explain select from commands where {condition}".encode(), parameters)
        plan = "\n".join(row["QUERY PLAN"] for row in await cursor.fetchall())
    assert f"on {index}" in plan, plan
