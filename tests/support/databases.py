"""Databases of a test's own on the server that all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres


@contextmanager
def fresh_database(postgres: EmbeddedPostgres, template: str | None = None) -> Iterator[str]:
    """A new one for as long as the block runs: a copy of the template, or empty."""
    name = f"test_{uuid4().hex}"
    copied = f"template {template} strategy file_copy" if template is not None else ""
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as conn:
        conn.execute(f"create database {name} {copied}")
    yield postgres.url(name)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as conn:
        # A replication stream may be ending still, and no force drops a database under one.
        slots = "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where database = %s"
        while conn.execute(slots, [name]).fetchall():
            pass
        conn.execute(f"drop database {name} with (force)")
