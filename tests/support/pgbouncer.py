"""PgBouncer in transaction mode, on a Unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

CONFIGURATION = """
[databases]
{database} = host={host} port={port} dbname={database} user={user} password={password}
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 6432
unix_socket_mode = 0777
auth_type = any
log_connections = 0
log_disconnections = 0
pool_mode = transaction
default_pool_size = {sessions}
ignore_startup_parameters = extra_float_digits
"""


@contextmanager
def pgbouncer(url: str, sessions: int) -> Iterator[str]:
    """The URL of a PgBouncer before this database, which opens at most so many sessions."""
    program = shutil.which("pgbouncer")
    assert program, "this test needs pgbouncer; `./dev test --all` installs it for root"
    parts = conninfo_to_dict(url)
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    folder.chmod(0o777)
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        CONFIGURATION.format(
            database=parts["dbname"],
            host=parts["host"],
            port=parts.get("port", 5432),
            user=parts["user"],
            password=parts["password"],
            folder=folder,
            sessions=sessions,
        )
    )
    through = make_conninfo("", host=str(folder), port=6432, dbname=parts["dbname"], user=parts["user"])
    # As the owner of Postgres's socket, whose folder only the owner may enter; PgBouncer refuses to run as root.
    user = Path(str(parts["host"])).stat().st_uid if os.geteuid() == 0 else None
    process = subprocess.Popen([program, str(configuration)], stderr=subprocess.PIPE, text=True, user=user)
    assert process.stderr is not None
    try:
        log = ""
        while "process up" not in log:
            line = process.stderr.readline()
            assert line, log
            log += line
        yield through
    finally:
        process.terminate()
        process.communicate()
        shutil.rmtree(folder)
