"""A Postgres server as a whole: whether it answers, and its databases."""

from __future__ import annotations

import time

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

REFUSED_SECONDS = 0.02
PING_SECONDS = 2
"""A server whose main process is stopped takes a connection and never answers it. libpq waits at least this long."""


def answers(url: str, within: float) -> None:
    """Connect once, within at most `within` seconds. Raises psycopg.OperationalError.

    A server that is starting, or recovering after a crash, briefly refuses connections.
    """
    deadline = time.monotonic() + within
    ping = make_conninfo(url, connect_timeout=PING_SECONDS).encode()
    while PGconn.ping(ping) == Ping.REJECT and time.monotonic() < deadline:
        time.sleep(REFUSED_SECONDS)
    psycopg.connect(url, connect_timeout=int(within)).close()


def ensure_database(url: str, name: str) -> None:
    """Create the database unless it exists; `url` connects to another database of the same server."""
    with psycopg.connect(url, autocommit=True) as conn:
        if conn.execute("select 1 from pg_database where datname = %s", [name]).fetchone() is None:
            conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
