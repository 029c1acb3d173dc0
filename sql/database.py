"""Connections to Postgres, set up the same way everywhere.

Settings are made by statements, not by start-up options, because poolers in session mode reject such options.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from traceback import clear_frames
from types import TracebackType
from typing import Any, Self

from psycopg import AsyncConnection, DataError, Error, IntegrityError, sql
from psycopg.rows import DictRow, Row, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from onsembl.sql.readable_values import load_every_value

Connection = AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]
"""The pool that `create_pool` creates."""

DATABASE_ERRORS = (Error, PoolTimeout)
"""Raised by a statement that fails, and by a pool without a free connection."""
LASTING_ERRORS = (DataError, IntegrityError)
"""The database errors that a repetition would meet again, for the row itself is at fault."""
SEARCH_PATH = ("onsembl", "procrastinate", "public")
CONNECT_SECONDS = 10
RECONNECT_SECONDS = 3.0


class PromptConnection(AsyncConnection[Row]):
    """A connection that closes at once when its task is cancelled during `connect`.

    The traceback of the cancelled task keeps psycopg's own connection half open. Postgres waits for such a client until
    `authentication_timeout` (a minute), and every `drop database` waits for Postgres.
    """

    @classmethod
    async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect as psycopg does."""
        try:
            return await super().connect(conninfo, **kwargs)
        except BaseException as error:
            clear_frames(error.__traceback__)
            raise


class _Own(PromptConnection[DictRow]):
    """A connection that closes whenever its block ends; psycopg's own stays open when it is cancelled during a
    commit."""

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
    """A pool that loses no connection when a task is cancelled while it returns one.

    psycopg's own pool loses the connection when the task is cancelled while it waits for the pool's lock; the next task
    in the queue then gets no connection until it times out.
    """

    async def putconn(self, conn: Connection) -> None:
        """Return a connection to the pool, as psycopg does."""
        await asyncio.shield(super().putconn(conn))


async def connect(url: str, *, role: str | None = None, autocommit: bool = False) -> Connection:
    """Open a connection outside any pool, acting as `role`. Raises psycopg.OperationalError."""
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
    """A pool whose connections act as `role`; the caller opens it (`async with`). A task waits at most `patience`
    seconds for a connection.

    A statement that fails shows that its connection died with the database, and the pool replaces the connection. With
    `check`, the pool tests each connection before it lends it: that costs a round trip, but no statement fails because
    of an earlier restart. With `autocommit`, each statement is a transaction, without the round trips to begin and to
    end it. With `may_lose`, a commit does not wait for the disk: a crash of Postgres may undo the latest transactions.
    """

    async def configure(conn: AsyncConnection[Any]) -> None:
        await _set_up(conn, role)
        # Not a connection argument: Procrastinate connects with the pool's arguments and adds its own `autocommit`.
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
        # The pauses between attempts double. After this limit the next task starts again with a short pause, so the
        # pool reconnects within seconds of the database's return, even after minutes of downtime.
        reconnect_timeout=RECONNECT_SECONDS,
        check=Pool.check_connection if check else None,
        open=False,
    )


@asynccontextmanager
async def statement(pool: Pool) -> AsyncGenerator[Connection]:
    """A connection of the pool for a single statement, which is a transaction without the round trips to begin and to
    end it."""
    async with pool.connection() as conn:
        await conn.set_autocommit(True)
        try:
            yield conn
        finally:
            if not conn.closed:
                await conn.set_autocommit(False)


async def _set_up(conn: AsyncConnection[Any], role: str | None) -> None:
    load_every_value(conn)
    statement = sql.SQL("set search_path to {}").format(sql.SQL(", ").join(map(sql.Identifier, SEARCH_PATH)))
    if role is not None:
        statement += sql.SQL("; set role {}").format(sql.Identifier(role))
    await conn.execute(statement)
    if not conn.autocommit:
        await conn.commit()
