"""Backups of a test's database, by the programs that an administrator uses."""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres


def dump(postgres: EmbeddedPostgres, url: str, path: Path) -> None:
    """Write the database to a file with pg_dump."""
    subprocess.run(
        [postgres.programs / "pg_dump", "--format=custom", "--compress=0", f"--file={path}", url], check=True
    )


def restore(postgres: EmbeddedPostgres, url: str, path: Path) -> None:
    """Replace the database by the file's content with pg_restore. Nothing may be connected to it."""
    name = urlsplit(url).path[1:]
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as conn:
        slots = "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where database = %s"
        while conn.execute(slots, [name]).fetchall():
            pass
        conn.execute(f"drop database {name} with (force)")
        conn.execute(f"create database {name}")
    subprocess.run([postgres.programs / "pg_restore", "--exit-on-error", f"--dbname={url}", path], check=True)
