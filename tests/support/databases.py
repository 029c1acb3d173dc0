"""A new database for a test, on the server that all tests share."""

from __future__ import annotations

import atexit
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres


@contextmanager
def fresh_database(postgres: EmbeddedPostgres, template: str | None = None) -> Iterator[str]:
    """Create a database until the block ends: a copy of the template, or an empty one."""
    name = f"test_{uuid4().hex}"
    copied = f"template {template} strategy file_copy" if template is not None else ""
    conn = _administration(postgres.url("postgres"))
    conn.execute(f"create database {name} {copied}")
    yield postgres.url(name)
    # A replication stream may still be active, and `force` does not drop its database.
    slots = "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where database = %s"
    while conn.execute(slots, [name]).fetchall():
        pass
    conn.execute(f"drop database {name} with (force)")


@functools.cache
def _administration(url: str) -> psycopg.Connection:
    """The connection that creates and drops this process's databases."""
    conn = psycopg.connect(url, autocommit=True)
    if conn.info.server_version >= 180000:  # the first that can
        conn.execute("set file_copy_method = clone")  # The kernel copies, which takes a fifth less.
    atexit.register(conn.close)
    return conn
