"""A Postgres server as a whole: whether it answers, and its databases."""

from __future__ import annotations

import psycopg
from psycopg import sql


def answers(url: str, within: float) -> None:
    """Connect once, waiting at most `within` seconds. Raises psycopg.OperationalError."""
    psycopg.connect(url, connect_timeout=int(within)).close()


def ensure_database(url: str, name: str) -> None:
    """Make the database unless it is there; `url` is that of another one on the same server."""
    with psycopg.connect(url, autocommit=True) as conn:
        if conn.execute("select 1 from pg_database where datname = %s", [name]).fetchone() is None:
            conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
