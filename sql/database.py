"""Connections to Postgres, set up the same way everywhere.

Settings are made by statements, not by start-up options, because poolers in session mode reject such options.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from traceback import clear_frames
from types import TracebackType
from typing import Any, LiteralString, Protocol, Self

from psycopg import AsyncConnection, DataError, Error, IntegrityError, sql
from psycopg.abc import PQGen, QueryNoTemplate
from psycopg.errors import error_from_result
from psycopg.generators import execute
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import DictRow, Row, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from onsembl.sql.readable_values import load_every_value

Connection = AsyncConnection[DictRow]
ConnectionPool = AsyncConnectionPool[Connection]
"""The pool that `create_pool` creates."""


class Pool(Protocol):
    """A source of connections: a pool of its own, or a lane of the process's pool (sql/process_database.py)."""

    def connection(self, patience: float | None = None, /) -> AbstractAsyncContextManager[Connection]:
        """A connection for a block, which is a transaction. Raises PoolTimeout after `patience` seconds."""
        ...

    async def check(self) -> None:
        """Replace the idle connections that are broken."""
        ...


DATABASE_ERRORS = (Error, PoolTimeout)
"""Raised by a statement that fails, and by a pool without a free connection."""
LASTING_ERRORS = (DataError, IntegrityError)
"""The database errors that a repetition would meet again, for the row itself is at fault."""
SEARCH_PATH = ("onsembl", "procrastinate", "public")
CONNECT_SECONDS = 10
RECONNECT_SECONDS = 3.0
PAUSE_MS = 20_000
"""How long a transaction may wait for its process before Postgres ends it, in milliseconds. A process that is stopped
within a transaction, by a signal or with its machine, would keep its locks: no worker could mark its agents offline."""


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


class _PooledConnection(PromptConnection[Row]):
    """A connection through a transaction pooler, which may give each transaction another session of Postgres.

    A setting of a session would stay behind in a session that other clients get. So each transaction begins with its
    own settings, in the same round trip, and each block of the pool is a transaction.
    """

    transaction_settings = b""

    async def set_autocommit(self, value: bool) -> None:
        """Have no effect: a statement outside a transaction would run without the settings."""

    def _exec_command(self, command: QueryNoTemplate, result_format: Format = Format.TEXT) -> PQGen[PGresult | None]:
        if not (isinstance(command, bytes) and command.startswith(b"BEGIN")):
            return (yield from super()._exec_command(command, result_format))
        self._check_connection_ok()
        self.pgconn.send_query(command + self.transaction_settings)
        for result in (yield from execute(self.pgconn)):
            if result.status != ExecStatus.COMMAND_OK:
                raise error_from_result(result)
        return None


class _SafePool(AsyncConnectionPool[Connection]):
    """A pool that loses no connection when a task is cancelled while it returns one, and lends each in the same mode.

    psycopg's own pool loses the connection when the task is cancelled while it waits for the pool's lock; the next task
    in the queue then gets no connection until it times out. It also lends a connection as the last task has left it: in
    autocommit, the statements of a block would be no transaction.
    """

    def __init__(self, url: str, *, autocommit: bool, **options: Any) -> None:
        super().__init__(url, **options)
        self._autocommit = autocommit

    async def putconn(self, conn: Connection) -> None:
        """Return a connection to the pool, as psycopg does."""
        await asyncio.shield(self._take_back(conn))

    async def _take_back(self, conn: Connection) -> None:
        if conn.autocommit != self._autocommit:
            # psycopg does not change the mode within a transaction. The pool replaces a closed connection.
            idle = conn.info.transaction_status is TransactionStatus.IDLE
            await (conn.set_autocommit(self._autocommit) if idle else conn.close())
        await super().putconn(conn)


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
    transaction_pooler: bool = False,
) -> ConnectionPool:
    """A pool whose connections act as `role`; the caller opens it (`async with`). A task waits at most `patience`
    seconds for a connection.

    A statement that fails shows that its connection died with the database, and the pool replaces the connection. With
    `check`, the pool tests each connection before it lends it: that costs a round trip, but no statement fails because
    of an earlier restart. With `autocommit`, each statement is a transaction, without the round trips to begin and to
    end it. With `transaction_pooler`, `url` may lead to a pooler in transaction mode: no statement is prepared, and no
    setting outlasts a transaction.
    """

    async def configure(conn: AsyncConnection[Any]) -> None:
        if isinstance(conn, _PooledConnection):
            load_every_value(conn)
            conn.transaction_settings = b"; " + _settings(role, "set local").as_bytes(conn)
            return
        await _set_up(conn, role)
        # Not a connection argument: Procrastinate connects with the pool's arguments and adds its own `autocommit`.
        await conn.set_autocommit(autocommit)

    kwargs: dict[str, Any] = {"row_factory": dict_row, "connect_timeout": CONNECT_SECONDS}
    if transaction_pooler:
        kwargs["prepare_threshold"] = None
    return _SafePool(
        url,
        autocommit=autocommit,
        connection_class=_PooledConnection[DictRow] if transaction_pooler else PromptConnection[DictRow],
        kwargs=kwargs,
        configure=configure,
        min_size=min_size,
        max_size=max_size,
        timeout=patience,
        # The pauses between attempts double. After this limit the next task starts again with a short pause, so the
        # pool reconnects within seconds of the database's return, even after minutes of downtime.
        reconnect_timeout=RECONNECT_SECONDS,
        check=ConnectionPool.check_connection if check else None,
        open=False,
    )


@asynccontextmanager
async def statement(pool: Pool, patience: float | None = None) -> AsyncGenerator[Connection]:
    """A connection of the pool for a single statement, which is a transaction without the round trips to begin and to
    end it."""
    async with pool.connection(patience) as conn:
        await conn.set_autocommit(True)  # until the connection is back in its pool
        yield conn


async def allow_pauses(conn: Connection) -> None:
    """Let the present transaction, which only reads, wait for the reader of its rows as long as that takes."""
    await conn.execute("set local idle_in_transaction_session_timeout to 0")


async def _set_up(conn: AsyncConnection[Any], role: str | None) -> None:
    load_every_value(conn)
    await conn.execute(_settings(role, "set"))
    if not conn.autocommit:
        await conn.commit()


def _settings(role: str | None, command: LiteralString) -> sql.Composed:
    """The statements that make the settings of a connection by `set`, or those of a transaction by `set local`."""
    settings = sql.SQL(command + " search_path to {}").format(sql.SQL(", ").join(map(sql.Identifier, SEARCH_PATH)))
    settings += sql.SQL("; " + command + " idle_in_transaction_session_timeout to {}").format(PAUSE_MS)
    if role is not None:
        settings += sql.SQL("; " + command + " role {}").format(sql.Identifier(role))
    return settings
