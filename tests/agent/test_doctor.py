"""The doctor: what each check finds on a machine, and the mend of each fault."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from support.command_line import run_in_process

from onsembl.agent.doctor import claude, codex, coding_cli, gemini, machine, server
from onsembl.agent.doctor.coding_cli import check_version
from onsembl.agent.doctor.findings import Finding
from onsembl.agent.drivers.start_failure import with_doctor
from onsembl.agent.enrolment.credentials import FILE_NAME, Credentials, save

SECRET = "sk-a-secret-key"


class HealthCheck(BaseHTTPRequestHandler):
    """Answers as the health check of a control center does."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def center() -> Iterator[str]:
    """The address of a server that answers its health check."""
    with HTTPServer(("127.0.0.1", 0), HealthCheck) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user on whose machine all is well for Claude Code."""
    home = tmp_path / "home"
    (home / ".claude").mkdir(parents=True)
    program(tmp_path, "echo '2.1.332 (Claude Code)'")
    return {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "HOME": str(home),
        "XDG_STATE_HOME": str(tmp_path),
        "ANTHROPIC_API_KEY": SECRET,
        "IS_SANDBOX": "1",
    }


def program(folder: Path, script: str, name: str = "claude") -> None:
    """Make a program, by default `claude`."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def enrolled(folder: Path, address: str, kind: str = "claude", name: str = "one") -> None:
    """Enrol an agent at a server."""
    save(
        folder / name,
        Credentials(
            server=address,
            agent_id="an-id",
            name=name,
            kind=kind,
            access_token=SECRET,
            access_expires_at=0.0,
            refresh_token=SECRET,
        ),
    )


def only(findings: list[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check == check]
    return found


# The program `onsembl agent doctor`


def test_a_healthy_machine_has_no_fault(tmp_path, environment, center):
    """Each check is a line, no secret is shown, and the exit code is 0."""
    enrolled(tmp_path / "agents", center)
    arguments = ("agent", "doctor", "--state-dir", str(tmp_path / "agents"), "--cwd", str(tmp_path))
    done = run_in_process(*arguments, environment=environment)
    assert (done.returncode, done.stderr) == (0, ""), done
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert {line[0] for line in lines} <= {"ok", "note"}
    found = {line[1] for line in lines}
    assert {"home", "state", "credentials", "server", "clock", "git", "config", "claude", "sign-in", "hooks"} <= found
    assert f"{center} answers." in done.stdout
    assert SECRET not in done.stdout

    done = run_in_process(*arguments, "--json", environment=environment)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["ok"]) == (0, True)
    assert {"check": "sign-in", "state": "ok", "text": "Found: ANTHROPIC_API_KEY.", "mend": None} in answer["findings"]


def test_each_fault_is_a_line_with_its_mend(tmp_path, environment):
    """The exit code is 1; with --json the findings are the same. Only the kinds that were asked for are checked."""
    (tmp_path / "bin" / "claude").unlink()
    del environment["ANTHROPIC_API_KEY"]
    arguments = ("agent", "doctor", "--state-dir", str(tmp_path / "agents"), "--server", "http://127.0.0.1:1")
    done = run_in_process(*arguments, environment=environment)
    assert (done.returncode, done.stderr) == (1, "Error: 4 faults found.\n")
    faults = [line for line in done.stdout.splitlines() if line.startswith("fault")]
    for what, mend in (
        ("No agent is enrolled in ", "onsembl agent login"),
        ("http://127.0.0.1:1 refuses the connection.", "Start the control center"),
        ("Claude Code is missing", "npm install -g @anthropic-ai/claude-code"),
        ("Claude Code is not signed in.", "Set ANTHROPIC_API_KEY"),
    ):
        (line,) = [line for line in faults if what in line]
        assert mend in line.partition(what)[2]
    answer = json.loads(run_in_process(*arguments, "--json", environment=environment).stdout)
    assert (answer["ok"], [one["state"] for one in answer["findings"]].count("fault")) == (False, 4)

    done = run_in_process(*arguments, "--kind", "shell", environment=environment)
    assert (done.returncode, done.stderr) == (1, "Error: 2 faults found.\n")
    assert "Claude" not in done.stdout and "/bin/bash" in done.stdout


def test_the_kinds_are_those_of_the_agents(tmp_path, environment, center):
    """An agent of kind `shell` needs no Claude Code; `--name` chooses one agent, and one that is unknown is a fault."""
    enrolled(tmp_path / "agents", center, "shell")
    enrolled(tmp_path / "agents", center, "claude", name="two")
    arguments = ("agent", "doctor", "--state-dir", str(tmp_path / "agents"))
    assert "sign-in" not in run_in_process(*arguments, "--name", "one", environment=environment).stdout
    both = run_in_process(*arguments, environment=environment).stdout
    assert both.count("credentials") == 2 and "sign-in" in both
    done = run_in_process(*arguments, "--name", "three", environment=environment)
    assert done.returncode == 1
    assert "Enrol it with: onsembl agent login --name three" in done.stdout
    assert run_in_process(*arguments, "--name", "one\n", environment=environment).returncode == 2


# Folders and programs


def test_a_folder_that_cannot_be_written_is_a_fault(tmp_path):
    """A missing folder is judged by the one in which it would be made; nothing is left behind."""
    (tmp_path / "file").touch()
    assert machine.check_folder("home", tmp_path).state == "ok"
    assert machine.check_folder("home", tmp_path / "a" / "b").state == "ok"
    assert "Not a directory" in machine.check_folder("home", tmp_path / "file" / "a").text
    assert {machine.check_folder("home", Path(path)).state for path in ("/proc", "/proc/none")} == {"fault"}
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    full = machine.folder_finding("home", tmp_path, 100 * 2**20, None)
    assert (full.state, "100 MiB are free" in full.text, "Free space" in (full.mend or "")) == ("fault", True, True)


def test_missing_programs_are_faults():
    """Without git or bash, the mend is how to install it; without cgroups an agent works."""
    assert "apt-get install git" in (machine.check_git(None).mend or "")
    assert "Install bash" in (machine.check_bash(None).mend or "")
    assert (machine.check_git("/usr/bin/git").state, machine.check_bash("/bin/bash").state) == ("ok", "ok")
    assert (machine.check_cgroups(True).state, machine.check_cgroups(False).state) == ("ok", "note")


# The way to the server


def test_credentials_that_cannot_be_used_are_faults(tmp_path):
    """The mend of each is in its line."""
    enrolled(tmp_path, "https://server.test")
    finding, credentials = server.check_credentials("one", tmp_path / "one")
    assert (finding.text, credentials is not None) == ("one, kind claude, at https://server.test", True)
    (tmp_path / "one").chmod(0o755)
    finding, credentials = server.check_credentials("one", tmp_path / "one")
    assert (finding.state, credentials) == ("fault", None)
    assert "chmod 700" in finding.text
    (tmp_path / "one").chmod(0o700)
    (tmp_path / "one" / FILE_NAME).write_text("{")
    assert "is damaged" in server.check_credentials("one", tmp_path / "one")[0].text
    finding, _ = server.check_credentials("two", tmp_path / "two")
    assert finding.mend == "Enrol it with: onsembl agent login --name two"


def test_a_server_that_does_not_answer_is_a_fault(monkeypatch, center):
    """Name, TLS, connection, silence and another program: each has a mend of its own."""
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "firewalls" in (only(server.check_server(url), "server").mend or "")
    monkeypatch.undo()
    assert "refuses the connection" in only(server.check_server("http://127.0.0.1:1"), "server").text
    tls = only(server.check_server(center.replace("http:", "https:")), "server")
    assert "has no valid TLS" in tls.text and "certificate" in (tls.mend or "")
    assert "answers its health check with 404" in only(server.check_server(f"{center}/elsewhere"), "server").text

    def because(cause: Exception) -> Finding:
        error = httpx.ConnectError("failed")
        error.__cause__ = cause
        return server.unreachable("https://server.test", error)

    assert because(socket.gaierror(-2, "unknown")).text == "The name server.test is not found."
    invalid = ssl.SSLCertVerificationError("certificate verify failed")
    invalid.verify_message = "self-signed certificate"
    assert "self-signed certificate" in because(invalid).text
    assert "cannot be reached: failed" in because(OSError(101, "Network is unreachable")).text


@pytest.mark.parametrize(
    ("server_is_at", "sent", "received", "found"),
    [
        (1000, 1000, 1000.5, "agrees"),
        (1000, 990, 1012, "agrees"),  # a slow answer
        (1000, 1100, 1100.5, "99 s ahead of"),
        (1000, 900, 900.5, "100 s behind"),
    ],
)
def test_a_clock_that_is_off_is_a_fault(server_is_at, sent, received, found):
    """How long the answer took, and the header's whole seconds, are no error of the clock."""
    (finding,) = server.clock_findings(formatdate(server_is_at, usegmt=True), sent, received)
    assert found in finding.text
    assert (finding.state == "fault") == ("agrees" not in found)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Thu, 99 Jan 2026 00:00:00 GMT"])
def test_an_answer_without_a_time_says_nothing_of_the_clock(date):
    """A proxy may leave the header out."""
    assert server.clock_findings(date, 1.0, 2.0) == []


# Claude Code


@pytest.mark.parametrize(
    ("script", "state", "text"),
    [
        ("echo '2.1.197 (Claude Code)'", "ok", "Claude Code 2.1.197"),
        ("echo '10.0.0 (Claude Code)'", "ok", "Claude Code 10.0.0"),
        ("echo '2.1.99 (Claude Code)'", "fault", "Claude Code 2.1.99 is too old; 2.1.197 or newer is needed."),
        ("echo hello", "fault", "prints no version: hello"),
        ("exit 0", "fault", "prints no version: nothing"),
        ("echo broken >&2; exit 3", "fault", "--version` fails: broken"),
        ("exit 3", "fault", "--version` fails: exit 3"),
        ("sleep 1000", "fault", "--version` fails: no answer"),
    ],
)
def test_the_version_is_checked(tmp_path, environment, monkeypatch, script, state, text):
    """A program that is too old, that fails or that does not answer is to be updated."""
    if "sleep" in script:
        monkeypatch.setattr(coding_cli, "VERSION_SECONDS", 0.2)
        script = f"exec {script}"
    program(tmp_path, script)
    finding = check_version(claude.CLAUDE, environment)
    assert (finding.state, text in finding.text) == (state, True), finding
    assert (finding.mend is not None) == (state == "fault")


def test_a_program_that_cannot_start_is_a_fault(tmp_path, environment):
    """As a binary of another system."""
    (tmp_path / "bin" / "claude").write_bytes(b"\x7fELF\x00")
    assert "Exec format error" in check_version(claude.CLAUDE, environment).text
    (tmp_path / "bin" / "claude").unlink()
    assert check_version(claude.CLAUDE, environment).mend == claude.CLAUDE.install


@pytest.mark.parametrize(
    ("variables", "files", "found"),
    [
        ({"ANTHROPIC_API_KEY": SECRET}, {}, "Found: ANTHROPIC_API_KEY."),
        ({"CLAUDE_CODE_USE_BEDROCK": "1"}, {}, "Found: CLAUDE_CODE_USE_BEDROCK."),
        ({}, {".credentials.json": {"claudeAiOauth": {"accessToken": SECRET}}}, ".credentials.json."),
        ({}, {"settings.json": {"apiKeyHelper": "helper"}}, "apiKeyHelper in settings.json."),
        ({}, {"settings.json": {"env": {"ANTHROPIC_AUTH_TOKEN": SECRET}}}, "ANTHROPIC_AUTH_TOKEN in settings.json."),
        ({}, {"settings.json": {"env": "?"}}, "Claude Code is not signed in."),
        ({"ANTHROPIC_API_KEY": ""}, {}, "Claude Code is not signed in."),
        ({}, {".credentials.json": "{"}, "does not hold a JSON object"),
        ({}, {"settings.json": "[]"}, "does not hold a JSON object"),
    ],
)
def test_the_sign_in_is_found(tmp_path, environment, variables, files, found):
    """Credentials are in the environment or in one of three files; a damaged file is a fault; no value is shown."""
    del environment["ANTHROPIC_API_KEY"]
    home = Path(environment["HOME"])
    for name, content in files.items():
        (home / ".claude" / name).write_text(content if isinstance(content, str) else json.dumps(content))
    findings = claude.check_claude({**environment, **variables}, home, tmp_path, root=False)
    told = [finding for finding in findings if finding.check in ("sign-in", "settings")]
    assert any(found in finding.text for finding in told), told
    assert all(finding.state == ("ok" if "Found" in finding.text else "fault") for finding in told), told
    assert all((finding.mend is not None) == (finding.state == "fault") for finding in told), told
    assert not any(SECRET in finding.text for finding in findings)


@pytest.mark.parametrize(
    ("variables", "settings", "state", "text"),
    [
        ({"GEMINI_API_KEY": SECRET}, None, "ok", "Found: GEMINI_API_KEY."),
        ({}, {"security": {"auth": {"selectedType": "vertex-ai"}}}, "ok", "Found: vertex-ai in "),
        ({}, {"security": {"auth": {"selectedType": "gemini-api-key"}}}, "fault", "Gemini CLI is not signed in."),
        ({}, None, "fault", "Gemini CLI is not signed in."),
        ({}, "{", "fault", "does not hold a JSON object"),
    ],
)
def test_the_sign_in_of_gemini_is_found(tmp_path, environment, variables, settings, state, text):
    """By a key in the environment, or by the way that its settings name; no value is shown."""
    program(tmp_path, "echo 0.61.0", name="gemini")
    if settings is not None:
        (tmp_path / ".gemini").mkdir()
        content = settings if isinstance(settings, str) else json.dumps(settings)
        (tmp_path / ".gemini" / "settings.json").write_text(content)
    version, sign_in = gemini.check_gemini({**environment, **variables}, tmp_path)
    assert version.state == "ok" and version.text.startswith("Gemini CLI 0.61.0, ")
    assert (sign_in.state, text in sign_in.text, SECRET in sign_in.text) == (state, True, False)
    assert (sign_in.mend is not None) == (state == "fault")


@pytest.mark.parametrize(
    ("variables", "files", "state", "text"),
    [
        ({"OPENAI_API_KEY": SECRET}, {}, "ok", "Found: OPENAI_API_KEY."),
        ({}, {"auth.json": '{"tokens": {}}'}, "ok", "auth.json."),
        ({}, {"config.toml": "model = 1"}, "note", "No key and no sign-in were found"),
        ({}, {"auth.json": "{"}, "fault", "does not hold a JSON object"),
        ({}, {}, "fault", "Codex is not signed in."),
    ],
)
def test_the_sign_in_of_codex_is_found(tmp_path, environment, variables, files, state, text):
    """By a key in the environment, or by its file; no value is shown."""
    program(tmp_path, "echo codex-cli 0.171.0", name="codex")
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    version, sign_in = codex.check_codex({**environment, **variables, "CODEX_HOME": str(tmp_path)}, tmp_path)
    assert version.state == "ok" and version.text.startswith("Codex 0.171.0, ")
    assert (sign_in.state, text in sign_in.text, SECRET in sign_in.text) == (state, True, False)
    assert (sign_in.mend is not None) == (state != "ok")


def test_a_keychain_cannot_be_seen():
    """On macOS, a missing key is no fault."""
    assert claude.sign_in_finding({}, [], "darwin").state == "note"
    assert claude.sign_in_finding({}, [], "linux").state == "fault"


def test_open_questions_of_the_first_run_are_noted(tmp_path, environment):
    """Commands of an agent are not asked, so that they are no fault; a damaged state is one."""
    path = claude.ClaudeHome.of(environment, Path(environment["HOME"])).state
    assert path.parent == Path(environment["HOME"])
    finding = claude.check_state(path, tmp_path)
    assert finding.state == "note"
    assert "its first-run questions and whether" in finding.text
    settled = {"hasCompletedOnboarding": True, "projects": {str(tmp_path): {"hasTrustDialogAccepted": True}}}
    path.write_text(json.dumps(settled))
    assert claude.check_state(path, tmp_path).state == "ok"
    assert claude.check_state(path, tmp_path / "other").state == "note"
    path.write_text('{"projects": {')
    assert "backups" in (claude.check_state(path, tmp_path).mend or "")
    own = claude.ClaudeHome.of({"CLAUDE_CONFIG_DIR": "/c"}, tmp_path)
    assert (own.config, own.state) == (Path("/c"), Path("/c/.claude.json"))


@pytest.mark.parametrize(
    ("place", "content", "state", "text"),
    [
        ("policy/managed-settings.json", {"disableAllHooks": True}, "note", "disableAllHooks in "),
        (
            "policy/managed-settings.d/10.json",
            {"allowManagedHooksOnly": True},
            "note",
            "with rules that deny tool calls.",
        ),
        ("config/settings.json", {"disableAllHooks": True}, "note", "Commands of an agent need none of them."),
        ("config/settings.json", {"disableAllHooks": False}, "ok", "No policy shuts off hooks."),
        ("policy/managed-settings.json", "{", "fault", "does not hold a JSON object"),
    ],
)
def test_hooks_that_a_policy_shuts_off_are_noted(tmp_path, place, content, state, text):
    """The finding names the file and the key."""
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    places = claude.ClaudeHome(tmp_path / "config", tmp_path / ".claude.json", tmp_path / "policy")
    finding = claude.check_hooks(places)
    assert (finding.state, text in finding.text) == (state, True), finding
    assert (str(path) in finding.text) == (state != "ok")


def test_root_is_told_what_it_cannot_do():
    """Claude Code refuses the permission mode `full` to root outside a sandbox."""
    assert [finding.state for finding in claude.check_full_mode({}, root=True)] == ["note"]
    assert claude.check_full_mode({"IS_SANDBOX": "1"}, root=True) == claude.check_full_mode({}, root=False) == []


def test_a_hint_fits_into_an_error():
    """A cause of any length leaves room for the way to the mend, in an error of 256 characters."""
    hint = "Find the mend on the agent's machine with: onsembl agent doctor"
    assert with_doctor("Not signed in.") == f"Not signed in. {hint}"
    assert len(with_doctor("x" * 1000)) <= 256
    assert with_doctor("x" * 1000).endswith(hint)
