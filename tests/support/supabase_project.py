"""A hosted Supabase project, served by the built-in Supabase in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from support.control_center import clean_environment
from support.forked import run_forked

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

ONSEMBL = (sys.executable, "-m", "onsembl.cli.main")


@dataclass
class SupabaseProject:
    """The project, as the `environment` of an Onsembl that uses it."""

    environment: dict[str, str]

    def onsembl(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run_forked(*arguments, env={**self.environment, **more}, timeout=150)


@contextmanager
def supabase_project(postgres: EmbeddedPostgres) -> Iterator[SupabaseProject]:
    """Serve a project on a new database, without Onsembl's tables."""
    name = f"project_{os.getpid()}_{os.urandom(4).hex()}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as conn:
        conn.execute(f"create database {name}")
    url = postgres.url(name)
    process = subprocess.Popen(
        [*ONSEMBL, "supabase", "serve", "--port", "0"],
        env=clean_environment(DATABASE_URL=url),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    output = "".join(process.stdout.readline() for _ in range(4))
    variables = dict(re.findall(r"export (\w+)=(\S+)", output))
    try:
        yield SupabaseProject(clean_environment(**variables, DATABASE_URL=url))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as conn:
            conn.execute(f"drop database {name} with (force)")
