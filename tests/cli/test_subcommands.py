"""What every subcommand does with hostile rows, with an output that takes nothing, without a server and without a valid
session. The subcommands are those of the parser: a new one is tested without a word here."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from support.control_center import clean_environment
from support.subcommands import AnyServer, every_command

from onsembl.cli import logs
from onsembl.cli.client import rest_client
from onsembl.cli.main import main
from onsembl.protocol.visible_text import visible_lines

HOSTILE = "x \x1b]0;owned\x07\x1b[2J\u202egro.kcatta\u2066\u200b\rold\nfake row"
NO_DATABASE = "postgresql://127.0.0.1:1/none?connect_timeout=1"
FILES = ("audit export", "export agent", "export command", "export stream", "reports export")
"""Subcommands that write a file as it is."""
LOCAL = (
    "agent doctor",
    "agent enrol",
    "agent host",
    "agent login",
    "agent logout",
    "agent mcp",
    "agent run",
    "agent update",
    "logout",
)
"""Subcommands that ask no server as an operator."""
SERVER = ("keys", "migrate", "operator", "supabase", "up", "worker")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a subcommand in this process; return its exit code, its standard output and its standard error."""
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)
    monkeypatch.setattr(rest_client, "CREATE_RETRY_SECONDS", ())
    monkeypatch.setattr(rest_client, "POLL_PATIENCE_SECONDS", 0.0)
    for name in [name for name in os.environ if name.startswith(("ONSEMBL_", "SUPABASE_", "DATABASE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("ONSEMBL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ONSEMBL_OPERATOR_PASSWORD", "a password")
    monkeypatch.setenv("ONSEMBL_ENROLMENT_TOKEN", "one_token")
    monkeypatch.chdir(tmp_path)

    def run(path: str, *arguments: str, out: io.TextIOBase | str | None = "") -> tuple[int, str, str]:
        stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8") if out == "" else out
        stderr = io.StringIO()
        if path not in ("stop", "audit export", "audit verify"):
            monkeypatch.setenv("DATABASE_URL", NO_DATABASE)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"template": "true"}')))
            patch.setattr(sys, "stdout", stdout)
            patch.setattr(sys, "stderr", stderr)
            try:
                main.main(arguments, prog_name="onsembl")
            except SystemExit as exit:
                code = exit.code
        monkeypatch.delenv("DATABASE_URL", raising=False)
        assert isinstance(code, int)
        written = stdout.buffer.getvalue().decode() if isinstance(stdout, io.TextIOWrapper) and out == "" else ""
        return code, written, stderr.getvalue()

    return run


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[httpx.Request], httpx.Response]], None]:
    """Let a function answer the requests of every client, signed in with a token."""

    def answer(server: Callable[[httpx.Request], httpx.Response]) -> None:
        async def asynchronously(_: object, request: httpx.Request) -> httpx.Response:
            return server(request)

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, request: server(request))
        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", asynchronously)
        monkeypatch.setenv("ONSEMBL_SERVER", "https://server.test")
        monkeypatch.setenv("ONSEMBL_TOKEN", "token")

    return answer


def refuses(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("Connection refused")


def test_no_subcommand_prints_hidden_characters(run: Run, answer):
    """Whatever a server answers, its hidden characters are escaped, a row is one line, and --json is JSON."""
    answer(AnyServer(HOSTILE))
    shown: list[str] = []
    for path, arguments in every_command():
        code, out, err = run(path, *arguments)
        assert code in (0, 1), (path, out, err)
        assert visible_lines(err) == err, path
        if path in FILES:
            continue
        assert visible_lines(out) == out, path
        assert "\nfake row" not in out, path
        shown += [path] if "\\x1b]0;owned" in out else []
        if re.search("--json", run(path, *path.split(), "--help")[1]):
            code, out, err = run(path, *arguments, "--json")
            assert out == "" or json.loads(out) is not None, path
            assert out.isascii() and visible_lines(err) == err, path
    assert len(shown) > 30, shown  # the rows did arrive


def test_errors_of_a_server_are_escaped(run: Run, answer):
    """The text of an error that a server sends is foreign, too."""
    answer(lambda _: httpx.Response(409, json={"detail": HOSTILE}))
    for path, arguments in every_command():
        code, out, err = run(path, *arguments)
        assert path in ("logout",) or code != 0, path
        assert visible_lines(out + err) == out + err, path


def test_an_output_that_takes_nothing_ends_every_subcommand(run: Run, answer):
    """On a full disk a subcommand says so and exits with 1; on a closed pipe it exits as if by SIGPIPE, silently; with
    its output closed it says so."""
    answer(AnyServer("text"))
    printing = [(path, arguments) for path, arguments in every_command() if run(path, *arguments)[1]]
    assert len(printing) > 50
    for path, arguments in printing:
        if path == "agent logout":
            continue  # there is nothing left to log out
        with Path("/dev/full").open("w") as full:
            code, _, err = run(path, *arguments, out=full)
        assert (code, err.splitlines()[-1:]) == (
            1,
            ["Error: The output cannot be written: No space left on device."],
        ), (path, err)
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            code, _, err = run(path, *arguments, out=pipe)
        assert (code, err) == (141, ""), path
        code, _, err = run(path, *arguments, out=None)
        assert code == 1, path
        assert "Error: The output cannot be written: Bad file descriptor." in err, (path, err)


def test_every_subcommand_says_that_there_is_no_server(run: Run, answer):
    """Without a server or a database, each subcommand that needs it ends with exit code 1 and one sentence."""
    answer(refuses)
    for path, arguments in every_command():
        code, out, err = run(path, *arguments)
        if path == "logout":
            continue
        assert (code, path == "agent doctor" or out == "") == (1, True), (path, out, err)  # the doctor's findings
        assert re.match(r"(?m)^(.*\n)*Error: ", err) and "Traceback" not in err, (path, err)
        if path not in LOCAL and path.split()[0] not in SERVER:
            assert err == "Error: The server https://server.test cannot be reached: Connection refused\n", path


def test_every_subcommand_says_that_the_session_has_expired(run: Run, answer, monkeypatch):
    """A session that cannot be renewed, and one that the server rejects, end with how to sign in again."""
    expired = {"code": 400, "msg": "Invalid Refresh Token"}
    session = {"server": "https://server.test", "auth_url": "https://server.test", "key": "key", "refresh_token": "r"}

    def rejecting(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/v1/token":
            return httpx.Response(400, json=expired)
        return httpx.Response(401, json={"detail": "The access token is invalid."})

    answer(rejecting)
    monkeypatch.delenv("ONSEMBL_TOKEN")
    monkeypatch.delenv("ONSEMBL_SERVER")
    rest_client.session_path().parent.mkdir(parents=True, exist_ok=True)
    for expires_at, reason in ((0.0, "Your session has expired"), (4e9, "The access token is invalid")):
        stored = json.dumps({**session, "access_token": "a", "expires_at": expires_at})
        for path, arguments in every_command():
            if path in (*LOCAL, "login") or path.split()[0] in SERVER:
                continue
            rest_client.session_path().write_text(stored)
            code, out, err = run(path, *arguments)
            again = "Sign in again: onsembl login --server https://server.test"
            assert (code, out, err) == (1, "", f"Error: {reason}. {again}\n"), path


@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        ("> /dev/full", 1, "Error: The output cannot be written: No space left on device.\n"),
        ("| :", 141, ""),
        (">&-", 1, "Error: The output cannot be written: Bad file descriptor.\n"),
    ],
)
def test_a_process_whose_output_fails_ends_without_a_traceback(redirection: str, code: int, message: str):
    """The interpreter adds nothing when it exits, not about what is still buffered either."""
    line = f"trap '' PIPE; {sys.executable} -m onsembl.cli.main --help {redirection}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", line], env=clean_environment(), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (code, message)
