"""Forks processes of `onsembl …` and of the agent's runner from a server that has imported all modules, so that each
starts in milliseconds.

    python -m support.forked LISTENER

serves the listening socket with this descriptor until its standard input ends. Each connection is one process: the
client sends a line of JSON with the command and the three standard streams; it receives a line with the process's id
and later one with its exit code.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import gc
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from support.cheap import make_cheap
from support.clocks import follow_clock
from support.missing_guards import remove_guard

from onsembl.cli.main import main

ONSEMBL = "onsembl.cli.main"
RUNNER = "support.runner_process"
PRELOADED = (
    *(RUNNER, "onsembl.agent.program", "onsembl.api.app", "onsembl.tasks.worker", "onsembl.cli.server.demo"),
    *("onsembl.cli.server.first_operator", "onsembl.cli.server.postgres_watch", "onsembl.cli.server.serve"),
    # These import the rest when they are first used.
    *("anyio._backends._asyncio", "cryptography.hazmat.backends.openssl.backend", "encodings.idna", "httpcore"),
    *("markdown_it", "wcwidth"),
)
PLACE = tempfile.gettempdir()
"""Where the server's socket is. A test may give itself another folder for temporary files, which ends with it."""
DEVNULL, PIPE, STDOUT = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT
Stream = int | IO[Any]


class ForkedProcess:
    """The part of `asyncio.subprocess.Process` that the tests use."""

    def __init__(
        self,
        pid: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stdout: asyncio.StreamReader | None = None,
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = stdout
        self._exit = asyncio.ensure_future(self._wait(reader, writer))

    async def communicate(self) -> bytes:
        """The rest of its output, when it has exited."""
        assert self.stdout is not None
        rest = await self.stdout.read()
        await self.wait()
        return rest

    async def wait(self) -> int:
        """The exit code; for a process ended by a signal, the negative number of the signal."""
        return await asyncio.shield(self._exit)

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def _wait(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        try:
            self.returncode = int(await reader.readline())
        finally:
            writer.close()
        return self.returncode


async def fork_onsembl(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdin: Stream = DEVNULL,
    stdout: Stream = 1,
    stderr: Stream = 2,
) -> ForkedProcess:
    """Start `onsembl` with these arguments and streams; by default with this process's output streams.

    `stdout` may be `PIPE`, and `stderr` then `STDOUT`.
    """
    return await _fork(ONSEMBL, arguments, env, (stdin, stdout, stderr))


async def fork_runner(*arguments: str, env: Mapping[str, str], stdin: Stream, stdout: Stream) -> ForkedProcess:
    """Start `support.runner_process` with these arguments and streams."""
    return await _fork(RUNNER, arguments, env, (stdin, stdout, 2))


async def _fork(
    module: str, arguments: Sequence[str], env: Mapping[str, str] | None, streams: Sequence[Stream]
) -> ForkedProcess:
    stdin, stdout, stderr = streams
    output = None
    with ExitStack() as stack:
        if stdout is PIPE:
            output, stdout = await _pipe(stack)
        if stderr is STDOUT:
            stderr = stdout
        connection = await asyncio.to_thread(_forked, module, arguments, env, (stdin, stdout, stderr))
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    return ForkedProcess(int(await reader.readline()), reader, writer, output)


async def _pipe(stack: ExitStack) -> tuple[asyncio.StreamReader, Stream]:
    """A pipe; the stack closes the end to write to, and the other one closes when it has been read to its end."""
    read, write = os.pipe()
    written = stack.enter_context(os.fdopen(write, "wb"))
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Output(reader), os.fdopen(read, "rb", buffering=0))
    return reader, written


class _Output(asyncio.StreamReaderProtocol):
    """Has the pipe closed at its end, which asyncio does in any case, and uvloop only when it is told to."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


class BlockingProcess:
    """The part of `subprocess.Popen` that the tests use, for a forked `onsembl` whose output and errors are one
    stream."""

    def __init__(self, *arguments: str, env: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        read, write = os.pipe()
        self.stdout = os.fdopen(read, "rb", buffering=0)
        try:
            self._connection = _forked(ONSEMBL, arguments, env, (DEVNULL, write, write))
        finally:
            os.close(write)
        self._answers = self._connection.makefile("rb")
        self.pid = int(self._answers.readline())

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, as of `ForkedProcess.wait`. Raises TimeoutError after `timeout` seconds."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._connection.close()
        return self.returncode


def run_forked(
    *arguments: str, env: Mapping[str, str], timeout: float, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `onsembl` with these arguments and this standard input to its end, at most `timeout` seconds."""
    with (
        tempfile.TemporaryFile("w+") as input_file,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        input_file.write(given)
        input_file.seek(0)
        with (
            _forked(ONSEMBL, arguments, env, (input_file, out, err)) as connection,
            connection.makefile("rb") as answers,
        ):
            answers.readline()
            connection.settimeout(timeout)
            code = int(answers.readline())
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read(), err.read())


def _forked(
    module: str, arguments: Sequence[str], env: Mapping[str, str] | None, streams: Sequence[Stream]
) -> socket.socket:
    """Ask the server for a process with these standard streams; it answers on the returned connection."""
    environment = dict(os.environ if env is None else env)
    request = {"module": module, "arguments": arguments, "environment": environment, "folder": str(Path.cwd())}
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(_server()))
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        opened = [nothing if stream is DEVNULL else stream for stream in streams]
        descriptors = [stream if isinstance(stream, int) else stream.fileno() for stream in opened]
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], descriptors)
    finally:
        os.close(nothing)
    return connection


SOCKET = "ONSEMBL_TEST_FORKING_SERVER"
"""The environment variable with the socket of a server that all processes of a run share."""
_starting = threading.Lock()


def share_server() -> None:
    """Start a server for this process and the processes of tests that it starts."""
    os.environ[SOCKET] = str(_server())


def _server() -> Path:
    if shared := os.environ.get(SOCKET):
        return Path(shared)
    with _starting:
        return _started_server()


@functools.cache
def _started_server() -> Path:
    """Start a server, which ends with this process, and return the path of its socket. It need not be ready."""
    folder = tempfile.TemporaryDirectory(prefix="onsembl-forked-", dir=PLACE)
    path = Path(folder.name) / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(128)  # Who connects before the server is ready waits for it.
        server = subprocess.Popen(
            [sys.executable, "-m", "support.forked", str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
    assert server.stdin is not None
    atexit.register(folder.cleanup)
    atexit.register(server.wait)
    atexit.register(server.stdin.close)  # Runs first of the three.
    return path


# The server


def serve(descriptor: int) -> None:
    """Fork a process for each connection, and report its exit."""
    make_cheap()
    for module in PRELOADED:
        import_module(module)
    for target, _ in main.lazy.values():  # type: ignore[attr-defined]
        import_module(target.partition(":")[0])
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, lambda *_: None)
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    with socket.socket(fileno=descriptor) as listener:
        while True:
            ready, _, _ = select.select([sys.stdin, listener, woken], [], [])
            if sys.stdin in ready:
                return
            if listener in ready:
                connection, _ = listener.accept()
                if (received := _received(connection)) is None:
                    connection.close()
                    continue
                request, descriptors = received
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    # Ignored where the run has begun under `nohup` or in the background of a shell.
                    signal.signal(signal.SIGHUP, signal.SIG_DFL)
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                    for other in (listener, connection, *running.values()):
                        other.close()
                    os.close(woken)
                    os.close(wakes)
                    _become(request, descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)
                with suppress(BrokenPipeError):  # The client has ended.
                    connection.sendall(b"%d\n" % pid)
                running[pid] = connection
            if woken in ready:
                os.read(woken, 4096)
                while running:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                    if pid == 0:
                        break
                    with running.pop(pid) as connection:
                        with suppress(BrokenPipeError):  # The client has closed its connection.
                            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The request and its streams; None from a client that has ended."""
    data, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while not data.endswith(b"\n"):
        if not (more := connection.recv(1 << 16)):
            return None
        data += more
    return json.loads(data), descriptors


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Run the command in this process, and exit."""
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # by this environment, not by the server's
    os.chdir(request["folder"])
    follow_clock(os.environ)
    remove_guard(os.environ)
    sys.orig_argv = [
        sys.executable,
        "-m",
        request["module"],
        *request["arguments"],
    ]  # `onsembl` starts itself again with this command.
    code: Any = 1
    try:
        if request["module"] == ONSEMBL:
            main.main(request["arguments"], prog_name="onsembl")
        else:
            import_module(request["module"]).main(request["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 — print it as the interpreter would
        traceback.print_exc()
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
