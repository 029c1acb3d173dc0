"""Connections to Postgres, set up the same way everywhere.

What is set is set by statements, not by start-up options, since poolers in session mode refuse the latter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from traceback import clear_frames
from types import TracebackType
from typing import Any, Self

from psycopg import AsyncConnection, Error, sql
from psycopg.rows import DictRow, Row, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

Connection = AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]
"""As `create_pool` makes it."""

DATABASE_ERRORS = (Error, PoolTimeout)
"""Raised by a statement that fails, and by a pool without a free connection."""
SEARCH_PATH = ("onsembl", "procrastinate", "public")
CONNECT_SECONDS = 10
RECONNECT_SECONDS = 3.0


class PromptConnection(AsyncConnection[Row]):
    """Closed at once when it is cancelled while it is made.

    psycopg's own is held half open by the traceback, which the cancelled task keeps. Until `authentication_timeout`,
    a minute, Postgres waits for the client, and every `drop database` for that.
    """

    @classmethod
    async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """As psycopg's own."""
        try:
            return await super().connect(conninfo, **kwargs)
        except BaseException as error:
            clear_frames(error.__traceback__)
            raise


class _Own(PromptConnection[DictRow]):
    """Closed whenever its block is left: psycopg's own stays open when it is cancelled while it commits."""

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(exc_type, exc_val, exc_tb)
        finally:
            await self.close()


class _SafePool(AsyncConnectionPool[Connection]):
    """Loses no connection when a task is cancelled while it returns one.

    psycopg's own pool loses the connection when the task is cancelled while it waits for the pool's lock, and leaves
    the task that was next in the queue without one until it times out.
    """

    async def putconn(self, conn: Connection) -> None:
        """As psycopg's own."""
        await asyncio.shield(super().putconn(conn))


async def connect(url: str, *, role: str | None = None, autocommit: bool = False) -> Connection:
    """A connection of one's own, acting as `role`. Raises psycopg.OperationalError."""
    conn = await _Own.connect(url, autocommit=autocommit, row_factory=dict_row, connect_timeout=CONNECT_SECONDS)
    try:
        await _set_up(conn, role)
    except BaseException:
        await conn.close()
        raise
    return conn


def create_pool(
    url: str,
    *,
    role: str | None = None,
    min_size: int = 1,
    max_size: int = 10,
    patience: float = 15.0,
    check: bool = False,
    autocommit: bool = False,
    may_lose: bool = False,
) -> Pool:
    """A pool whose connections act as `role`; the caller opens it (`async with`). One who takes a connection waits
    `patience` seconds for it.

    A connection that died with the database is found out by the statement that fails on it, and replaced. With `check`
    it is found out when it is taken, for the price of a round trip: nobody's statement fails for a restart long past.
    With `autocommit` a statement is a transaction, without the round trips to begin and to end it. With `may_lose` it
    does not wait for the disk: a crash of Postgres may undo the last ones.
    """

    async def configure(conn: AsyncConnection[Any]) -> None:
        await _set_up(conn, role)
        # Not among the arguments: Procrastinate connects with the pool's, and its own about this.
        await conn.set_autocommit(autocommit)
        if may_lose:
            await conn.execute("set synchronous_commit to off")

    return _SafePool(
        url,
        connection_class=PromptConnection[DictRow],
        kwargs={"row_factory": dict_row, "connect_timeout": CONNECT_SECONDS},
        configure=configure,
        min_size=min_size,
        max_size=max_size,
        timeout=patience,
        # The pauses between attempts double. Given up soon, the next who waits begins again with a short one, so that a
        # database that was away for minutes is in use again within seconds of its return.
        reconnect_timeout=RECONNECT_SECONDS,
        check=Pool.check_connection if check else None,
        open=False,
    )


@asynccontextmanager
async def statement(pool: Pool) -> AsyncGenerator[Connection]:
    """A connection of the pool for a single statement, which is a transaction: without the round trips to begin and to
    end it."""
    async with pool.connection() as conn:
        await conn.set_autocommit(True)
        try:
            yield conn
        finally:
            if not conn.closed:
                await conn.set_autocommit(False)


async def _set_up(conn: AsyncConnection[Any], role: str | None) -> None:
    statement = sql.SQL("set search_path to {}").format(sql.SQL(", ").join(map(sql.Identifier, SEARCH_PATH)))
    if role is not None:
        statement += sql.SQL("; set role {}").format(sql.Identifier(role))
    await conn.execute(statement)
    if not conn.autocommit:
        await conn.commit()
