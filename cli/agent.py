"""`onsembl agent`: enrol an agent on this machine and run it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

import click
import msgspec
import platformdirs

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.device_flow import log_in
from onsembl.agent.enrolment.enrol import CredentialsRejected, log_out
from onsembl.agent.enrolment.enrol import enrol as enrol_at
from onsembl.agent.errors import AgentError
from onsembl.cli import logs
from onsembl.cli.client.options import server_url
from onsembl.cli.hints import command_line
from onsembl.cli.insecure import insecure_option, is_encrypted_or_local, require_encryption
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line, styled
from onsembl.protocol.enrolment import DeviceAuthorization
from onsembl.protocol.hosting import MAX_AGENTS, StartKind
from onsembl.protocol.states import AgentKind

HOST_LOG = "onsembl.agent.hosting.program"
"""The logger that says which agents a host starts."""
CONNECTION_LOG = "onsembl.agent.link.connection"
"""The logger that says when the agent is connected, and to which server."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KINDS = click.Choice([kind.value for kind in AgentKind])
_COLOURS = {"ok": "green", "note": "yellow", "fault": "red"}


@click.group()
def agent() -> None:
    """Enrol and run an agent on this machine."""
    if os.name != "posix":
        raise click.ClickException("An agent needs pseudo-terminals. Run it on Linux, on macOS or in WSL.")


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter("use at most 64 letters, digits, '.', '_' and '-', beginning with a letter or digit")
    return value


def _optional_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    return None if value is None else _name(context, parameter, value)


def _default_name() -> str:
    """This machine's name, without the characters that an agent's name cannot have."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")[:64] or "agent"


def _folder(state_dir: Path, name: str) -> Path:
    """The agent's folder, prepared for its credentials. Raises ClickException."""
    folder = state_dir / name
    try:
        store.prepare(folder)
    except OSError as error:
        raise click.ClickException(f"The agent's folder {folder} cannot be used: {_reason(error)}.") from error
    return folder


def _save(folder: Path, credentials: store.Credentials) -> None:
    """Save new credentials. Raises ClickException."""
    try:
        store.save(folder, credentials)
    except OSError as error:
        raise click.ClickException(
            f"The server enrolled {credentials.name}, but its credentials cannot be saved: {_reason(error)}. "
            "Ask an admin to disable the agent, or enrol it again."
        ) from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


_name_option = click.option(
    "--name", required=True, callback=_name, help="The agent's name, unique in the control center."
)
_state_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: platformdirs.user_state_path("onsembl") / "agents",
    show_default="the user's state folder",
    help="The folder for credentials and journals of agents.",
)


@agent.command()
@click.option("--server", required=True, type=server_url, metavar="URL", help="The control center's URL.")
@insecure_option
@_name_option
@click.option("--kind", type=_KINDS, required=True, help="The kind of coding CLI to run.")
@click.option("--token-file", type=click.File(), help="The file with the one-time token; - is standard input.")
@_state_option
def enrol(server: str, name: str, kind: str, token_file: TextIO | None, state_dir: Path) -> None:
    """Enrol this machine as an agent with a one-time token.

    The token is read from --token-file, ONSEMBL_ENROLMENT_TOKEN or a prompt. It is never an argument, because other
    users see the arguments of processes.
    """
    require_encryption(server)
    folder = _folder(state_dir, name)  # before the request, because the token works only once
    token = token_file.read().strip() if token_file is not None else _enrolment_token()
    try:
        credentials = asyncio.run(enrol_at(server, token, name, AgentKind(kind)))
    except AgentError as error:
        raise click.ClickException(f"The agent was not enrolled: {error}") from error
    _save(folder, credentials)
    _print_enrolled(name)


@agent.command()
@click.option("--server", required=True, type=server_url, metavar="URL", help="The control center's URL.")
@insecure_option
@click.option(
    "--name",
    callback=_name,
    default=_default_name,
    show_default="this machine's",
    help="The agent's name, unique in the control center.",
)
@click.option("--kind", type=_KINDS, required=True, help="The kind of coding CLI to run.")
@_state_option
def login(server: str, name: str, kind: str, state_dir: Path) -> None:
    """Enrol this machine as an agent with a code that an admin approves."""
    require_encryption(server)
    folder = _folder(state_dir, name)
    try:
        credentials = asyncio.run(log_in(server, name, AgentKind(kind), _show))
    except AgentError as error:
        raise click.ClickException(f"The agent was not enrolled: {error}") from error
    _save(folder if credentials.name == name else _folder(state_dir, credentials.name), credentials)
    _print_enrolled(credentials.name)


def _failure(error: AgentError, name: str) -> click.ClickException:
    """The error for the person at the terminal; with the way to enrol an agent that is not."""
    if isinstance(error, store.NotEnrolled):
        return click.ClickException(f"{error} Enrol it with: {command_line('agent login', '--name', name)}")
    return click.ClickException(str(error))


def _print_enrolled(name: str) -> None:
    print_line(f"Enrolled as {name}. Start it with: {command_line('agent run', '--name', name)}")


def _show(code: DeviceAuthorization) -> None:
    print_line()
    print_line(f"  Open        {code.verification_uri}")
    print_line("  and enter   ", styled(code.user_code, bold=True))
    print_line()
    print_line(f"  or open     {code.verification_uri_complete}")
    print_line()
    print_line(f"Waiting up to {code.expires_in // 60} minutes for an admin to approve. Ctrl-C cancels.")


@agent.command()
@_name_option
@insecure_option
@_state_option
def logout(name: str, state_dir: Path) -> None:
    """Revoke this agent's credentials at the server and delete them here. Its connection is closed."""
    folder = state_dir / name
    try:
        credentials = store.load(folder)
    except AgentError as error:
        raise _failure(error, name) from error
    require_encryption(credentials.server)
    revoked = True
    try:
        asyncio.run(log_out(credentials))
    except CredentialsRejected:
        pass  # the server had revoked the credentials before
    except AgentError as error:
        revoked = False
        print_line(f"The credentials were not revoked at the server: {error}", err=True)
    try:
        store.erase(folder)
    except OSError as error:
        state = "revoked, but they" if revoked else "not revoked, and they"
        raise click.ClickException(
            f"The credentials of {name} are {state} cannot be deleted here: {_reason(error)}."
        ) from error
    print_line(f"The credentials of {name} are deleted.")
    if not revoked:
        raise click.ClickException("Ask an admin to disable the agent: a copy of the credentials still works.")


@agent.command()
@click.option(
    "--name", callback=_optional_name, help="The agent's name.", show_default="all agents of the state folder"
)
@click.option("--kind", "kinds", type=_KINDS, multiple=True, help="A kind of coding CLI (repeat for several).")
@click.option("--server", type=server_url, metavar="URL", help="The control center's URL; by default as enrolled.")
@insecure_option
@click.option(
    "--cwd",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    help="The working directory of commands.",
    show_default="the current directory",
)
@_state_option
@json_option
def doctor(
    name: str | None, kinds: tuple[str, ...], server: str | None, cwd: Path, state_dir: Path, *, as_json: bool
) -> None:
    """Check this machine: the CLI, its sign-in, folders, clock and server.

    Each line is one check; a fault has its mend. The exit code is 1 when there is a fault. Run it as the agent's user,
    with the agent's environment.
    """
    from onsembl.agent.doctor.doctor import enrolled_names, examine  # imports modules that only POSIX systems have

    if server is not None:
        require_encryption(server)
    names = [name] if name is not None else enrolled_names(state_dir)
    findings = examine(state_dir, names, [AgentKind(kind) for kind in kinds], server, cwd.resolve())
    faults = sum(finding.state == "fault" for finding in findings)
    if as_json:
        print_json({"ok": not faults, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            state = styled(f"{finding.state:<6}", fg=_COLOURS[finding.state])
            print_line(state, f"{finding.check:<13} {finding.text}", f" {finding.mend}" if finding.mend else "")
    if faults:
        raise click.ClickException(f"{faults} fault{'s' if faults > 1 else ''} found.")


@agent.command()
@_name_option
@insecure_option
@_state_option
def update(name: str, state_dir: Path) -> None:
    """Update this program to the release of an agent's server.

    The server's wheel is fetched with the agent's credentials, checked by its hash, and installed with pip or uv into
    this program's environment. Agents that run go on with the former release until they are restarted.
    """
    # Imported before the files are replaced, and only where they exist: some need a POSIX system.
    from onsembl.agent.installation import Installed, install, installed_release, this_installer
    from onsembl.agent.update import fetch_wheel, read_release, running_agents, usable_credentials

    try:
        installed, installer = installed_release(), this_installer()
        require_encryption(store.load(state_dir / name).server)
        credentials = asyncio.run(usable_credentials(state_dir / name))
        release = asyncio.run(read_release(credentials))
        wanted = Installed(release.version, release.sha256)
        if installed == wanted:
            print_line(f"Release {release.version} is installed, as {credentials.server} has it.")
            return
        print_line(f"Updating from release {installed.version} to {release.version} of {credentials.server}:")
        with TemporaryDirectory(prefix="onsembl-update-") as folder:
            wheel = asyncio.run(fetch_wheel(credentials, release, Path(folder)))
            print_line(f"  {release.wheel}, {release.size:,} bytes, SHA-256 {release.sha256}: as described")
            print_line(f"  installing it with {installer.name} into {sys.prefix} …")
            install(installer, wheel, wanted)
        print_line(f"Release {release.version} is installed.")
        for running in running_agents(state_dir):
            print_line(f"{running} runs with the former release. Restart it when it has no command.")
    except AgentError as error:
        raise _failure(error, name) from error
    except OSError as error:
        raise click.ClickException(f"The release was not installed: {_reason(error)}.") from error


@agent.command()
@click.option("--server", type=server_url, metavar="URL", help="The control center's URL, to enrol this machine.")
@insecure_option
@click.option(
    "--name",
    callback=_name,
    default=_default_name,
    show_default="this machine's",
    help="The host's name, unique in the control center.",
)
@click.option(
    "--allow",
    "allowed",
    multiple=True,
    required=True,
    metavar="KIND,…",
    help="Kinds of agents to allow: claude, codex, gemini, shell, or acp:CLI (repeat for several).",
)
@click.option(
    "--folder",
    "folders",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=["."],
    help="A folder to allow, with all below it (repeat for several).",
    show_default="the current directory",
)
@click.option(
    "--max",
    "max_agents",
    type=click.IntRange(1, MAX_AGENTS),
    default=4,
    show_default=True,
    help="How many agents may run at a time.",
)
@click.option("--token-file", type=click.File(), help="The file with the one-time token; - is standard input.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@_state_option
def host(
    server: str | None,
    name: str,
    allowed: tuple[str, ...],
    folders: tuple[Path, ...],
    max_agents: int,
    token_file: TextIO | None,
    verbose: bool,
    state_dir: Path,
) -> None:
    """Let admins start agents on this machine from the dashboard, until this program is stopped.

    An admin chooses a name, one of the allowed kinds, and a folder at or below an allowed one; links that lead out are
    not followed. Each agent has credentials of its own, runs as this user with this environment, and is stopped and
    started again with this program. The host itself takes no commands.

    At the first start the machine is enrolled with --server and a one-time token, which is read from --token-file,
    ONSEMBL_ENROLMENT_TOKEN or a prompt.
    """
    level = logging.INFO if verbose else logging.WARNING
    logs.configure(level, "%(asctime)s %(levelname)s %(message)s", informs=[HOST_LOG])
    from onsembl.agent.hosting import client, program  # import modules that only POSIX systems have
    from onsembl.agent.hosting.rules import HostRules

    folder = state_dir / ".hosts" / name
    try:
        kinds = msgspec.convert([kind for each in allowed for kind in each.split(",")], list[StartKind])
        rules = HostRules(kinds, [each.resolve() for each in folders], max_agents)
        known = client.load(folder)
        if known is None:
            if server is None:
                raise click.ClickException(f"The host {name} is not enrolled here: give --server.")
            require_encryption(server)
            token = token_file.read().strip() if token_file is not None else _enrolment_token()
            known = asyncio.run(client.enrol_host(folder, server, token, name))
        elif server is not None:
            known = msgspec.structs.replace(known, server=server)
        require_encryption(known.server)
        options = [] if is_encrypted_or_local(known.server) else ["--insecure"]
        config = program.HostConfig(
            folder=folder, state_dir=state_dir.resolve(), host=known, rules=rules, options=options
        )
        asyncio.run(program.run_host(config))
    except msgspec.ValidationError as error:
        raise click.BadParameter(f"{', '.join(allowed)}: {error}", param_hint="--allow") from error
    except AgentError as error:
        raise click.ClickException(str(error)) from error


@agent.command()
def mcp() -> None:
    """Serve the agent's own tools (MCP) to the coding CLI that starts this program.

    The agent gives its coding CLI this server with each command: `ask_operator` asks a question and waits for the
    answer, `notify` shows a text. It works only in the environment of a command.
    """
    from onsembl.agent.mcp.pipe import PipeError
    from onsembl.agent.mcp.pipe import run as pass_lines

    try:
        pass_lines()
    except PipeError as error:
        raise click.ClickException(str(error)) from error


def _enrolment_token() -> str:
    token = os.environ.get("ONSEMBL_ENROLMENT_TOKEN") or str(click.prompt("Enrolment token", hide_input=True))
    return token.strip()


@agent.command()
@_name_option
@click.option("--kind", type=_KINDS, help="The kind of coding CLI to run; by default as enrolled.")
@click.option("--server", type=server_url, metavar="URL", help="The control center's URL; by default as enrolled.")
@insecure_option
@click.option(
    "--cwd",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    help="The working directory of commands.",
    show_default="the current directory",
)
@click.option(
    "--startup-script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A bash script to run once in the terminal at the start.",
)
@click.option("--files", is_flag=True, help="Let operators look at the files of the working directory, read-only.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@_state_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    name: str,
    kind: str | None,
    server: str | None,
    cwd: Path,
    startup_script: Path | None,
    files: bool,
    verbose: bool,
    state_dir: Path,
    arguments: tuple[str, ...],
) -> None:
    """Run an enrolled agent until it is stopped. ARGUMENTS after `--` are passed to the coding CLI."""
    level = logging.INFO if verbose else logging.WARNING
    logs.configure(level, "%(asctime)s %(levelname)s %(message)s", informs=[CONNECTION_LOG])
    from onsembl.agent.program import AgentConfig, run_agent  # imports modules that only POSIX systems have

    folder = state_dir / name
    try:
        enrolled = store.load(folder)
        require_encryption(server or enrolled.server)
        config = AgentConfig(
            folder=folder,
            kind=AgentKind(kind or enrolled.kind),
            cwd=cwd.resolve(),
            version=version("onsembl"),
            server=server,
            arguments=arguments,
            startup_script=startup_script.resolve() if startup_script else None,
            shows_files=files,
        )
        restart = asyncio.run(run_agent(config))
    except AgentError as error:
        raise _failure(error, name) from error
    if restart:
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 — restarts this program with its own arguments
