"""Extends and verifies the hash chain over the audit log, in the database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import psycopg
from psycopg.rows import DictRow
from psycopg_pool import PoolTimeout

from onsembl.fleet.audit_chain import Verifier, chained, row_hash
from onsembl.sql import audit_chain
from onsembl.sql.audit_chain import Link, Seal
from onsembl.sql.database import Connection, Pool

logger = logging.getLogger(__name__)

SEAL_SECONDS = 1.0
BATCH = 5000
PROGRESS_EVERY = 10_000


async def seal_for_ever(pool: Pool) -> None:
    """Seal new rows every second until cancelled. Any number of processes may run this; one at a time seals."""
    while True:
        try:
            async with pool.connection() as conn:
                await seal_new_rows(conn)
        except (psycopg.Error, PoolTimeout) as error:
            logger.warning("The audit log could not be sealed: %s", error, extra={"action": "seal_failed"})
        await asyncio.sleep(SEAL_SECONDS)


async def seal_new_rows(conn: Connection) -> int:
    """Add every unsealed row to the chain that no other row can precede any more; return their number. One
    transaction."""
    seal = await audit_chain.seal(conn, to_lengthen=True)
    end = await audit_chain.horizon(conn)
    if end == seal.horizon:
        return 0
    restored = int(end) < int(seal.horizon)

    async def unsealed() -> list[DictRow]:
        if restored:
            return await audit_chain.unsealed_after_restore(conn, end, after, BATCH)
        return await audit_chain.unsealed(conn, seal.horizon, end, after, BATCH)

    seq, head, after = seal.seq, seal.hash, 0
    while rows := await unsealed():
        links: list[Link] = []
        for row in rows:
            row_digest = row_hash(row["text"])
            seq, head, after = seq + 1, chained(head, row_digest), row["id"]
            links.append(Link(seq, row["id"], row["at"], row_digest, head))
        await audit_chain.add(conn, links)
    if seq > seal.seq or restored:
        await audit_chain.set_seal(conn, Seal(end, seq, head))
    return seq - seal.seq


async def verification(
    conn: Connection, expected: frozenset[str], progress: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Verify the log like `verify`; the result as `onsembl audit verify --json` and the REST API have it."""
    verifier = await verify(conn, expected, progress)
    status = await audit_chain.status(conn)
    return {
        "ok": verifier.wrong == 0,
        "rows": verifier.checked,
        "head": {"seq": verifier.seq, "hash": verifier.hash.hex()},
        "unsealed": status["unsealed"],
        "wrong": verifier.wrong,
        "findings": verifier.findings,
    }


async def verify(
    conn: Connection, expected: frozenset[str], progress: Callable[[int], None] = lambda _: None
) -> Verifier:
    """Verify the whole chain against the log, in constant memory. `expected` are hashes, in hex, that were noted
    before.

    The connection must not be in a transaction yet.
    """
    async with conn.transaction():
        await conn.execute("set transaction isolation level repeatable read, read only")
        anchor = await audit_chain.anchor(conn)
        verifier = Verifier(*anchor, watch=expected)
        verifier.passed |= {anchor[1].hex()} & expected
        async with aclosing(audit_chain.links(conn)) as links:
            async for row in links:
                text = None if row["gone"] else row["text"]
                verifier.link(
                    row["seq"], row["audit_id"], bytes(row["row_hash"]), bytes(row["hash"]), text, row["dropped"]
                )
                if verifier.checked % PROGRESS_EVERY == 0:
                    progress(verifier.checked)
        seal = await audit_chain.seal(conn, to_lengthen=False)
        async with aclosing(audit_chain.unchained_rows(conn, seal.horizon)) as ids:
            async for audit_id in ids:
                verifier.unchained_row(audit_id)
        verifier.end(seal.seq, seal.hash)
    return verifier
