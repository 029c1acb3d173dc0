"""`onsembl agent`: enrol an agent on this machine, and run it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import click
import platformdirs

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.device_flow import log_in
from onsembl.agent.enrolment.enrol import CredentialsRejected, log_out
from onsembl.agent.enrolment.enrol import enrol as enrol_at
from onsembl.agent.errors import AgentError
from onsembl.cli import logs
from onsembl.protocol.enrolment import DeviceAuthorization
from onsembl.protocol.states import AgentKind

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
_KINDS = click.Choice([AgentKind.SHELL.value, AgentKind.CLAUDE.value])


@click.group()
def agent() -> None:
    """Enrol and run an agent on this machine."""
    if os.name != "posix":
        raise click.ClickException("An agent needs pseudo-terminals: run it on Linux, macOS, or Windows' WSL.")


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not _NAME.match(value):
        raise click.BadParameter("letters, digits, '.', '_' and '-', at most 64, the first a letter or digit")
    return value


def _server(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise click.BadParameter("an address such as https://onsembl.example.org")
    return value.rstrip("/")


def _default_name() -> str:
    """This machine's name, as far as an agent may have it."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")[:64] or "agent"


def _folder(state_dir: Path, name: str) -> Path:
    """The agent's folder, in which credentials can be kept. Raises ClickException."""
    folder = state_dir / name
    try:
        store.prepare(folder)
    except OSError as error:
        raise click.ClickException(f"The agent's folder {folder} cannot be used: {_why(error)}.") from error
    return folder


def _keep(folder: Path, credentials: store.Credentials) -> None:
    """Raises ClickException."""
    try:
        store.save(folder, credentials)
    except OSError as error:
        raise click.ClickException(
            f"The server has let {credentials.name} in, but the credentials cannot be kept here: {_why(error)}. "
            "An admin should disable the agent, or let it in anew."
        ) from error


def _why(error: OSError) -> str:
    return error.strerror or str(error)


_name_option = click.option("--name", required=True, callback=_name, help="The agent's name, unique on its server.")
_state_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=platformdirs.user_state_path("onsembl") / "agents",
    show_default=True,
    help="Where agents keep their credentials and journals.",
)


@agent.command()
@click.option("--server", required=True, callback=_server, help="The control center's address.")
@_name_option
@click.option("--kind", type=_KINDS, required=True, help="What it runs.")
@click.option("--token-file", type=click.File(), help="A file that holds the one-time token; - is standard input.")
@_state_option
def enrol(server: str, name: str, kind: str, token_file: TextIO | None, state_dir: Path) -> None:
    """Make this machine an agent by a one-time token.

    The token is asked for, or read from a file or from ONSEMBL_ENROLMENT_TOKEN. It is never an argument: the list of
    processes would show it.
    """
    folder = _folder(state_dir, name)  # first of all, for the token works only once
    token = token_file.read().strip() if token_file is not None else _enrolment_token()
    try:
        credentials = asyncio.run(enrol_at(server, token, name, AgentKind(kind)))
    except AgentError as error:
        raise click.ClickException(f"The agent was not enrolled: {error}") from error
    _keep(folder, credentials)
    click.echo(f"Enrolled as {name}. Start it with: onsembl agent run --name {name}")


@agent.command()
@click.option("--server", required=True, callback=_server, help="The control center's address.")
@click.option(
    "--name",
    callback=_name,
    default=_default_name,
    show_default="this machine's",
    help="The agent's name, unique there.",
)
@click.option("--kind", type=_KINDS, required=True, help="What it runs.")
@_state_option
def login(server: str, name: str, kind: str, state_dir: Path) -> None:
    """Make this machine an agent: an operator approves the code that is shown."""
    folder = _folder(state_dir, name)
    try:
        credentials = asyncio.run(log_in(server, name, AgentKind(kind), _show))
    except AgentError as error:
        raise click.ClickException(f"The agent was not enrolled: {error}") from error
    _keep(folder if credentials.name == name else _folder(state_dir, credentials.name), credentials)
    click.echo(f"Enrolled as {credentials.name}. Start it with: onsembl agent run --name {credentials.name}")


def _show(code: DeviceAuthorization) -> None:
    click.echo(f"\n  Open        {code.verification_uri}")
    click.echo(f"  and enter   {click.style(code.user_code, bold=True)}")
    click.echo(f"\n  or open     {code.verification_uri_complete}\n")
    click.echo(f"Waiting for an admin to approve, at most {code.expires_in // 60} minutes. Ctrl-C gives up.")


@agent.command()
@_name_option
@_state_option
def logout(name: str, state_dir: Path) -> None:
    """Give up this agent's credentials, here and at the server, which closes its connection."""
    folder = state_dir / name
    try:
        credentials = store.load(folder)
    except AgentError as error:
        raise click.ClickException(str(error)) from error
    told = True
    try:
        asyncio.run(log_out(credentials))
    except CredentialsRejected:
        pass  # the server had revoked the credentials before
    except AgentError as error:
        told = False
        click.echo(f"The server was not told: {error}", err=True)
    try:
        store.erase(folder)
    except OSError as error:
        done = "The server takes them no more, but t" if told else "T"
        raise click.ClickException(f"{done}he credentials of {name} cannot be erased here: {_why(error)}.") from error
    click.echo(f"The credentials of {name} are erased.")
    if not told:
        raise click.ClickException("An admin should disable the agent: somebody with a copy could still use it.")


def _enrolment_token() -> str:
    token = os.environ.get("ONSEMBL_ENROLMENT_TOKEN") or str(click.prompt("Enrolment token", hide_input=True))
    return token.strip()


@agent.command()
@_name_option
@click.option("--kind", type=_KINDS, help="What it runs; as enrolled.")
@click.option("--server", callback=_server, help="The control center's address; as enrolled.")
@click.option(
    "--cwd",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    help="Where commands run.",
    show_default="this folder",
)
@click.option(
    "--startup-script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A bash script to run in the terminal once, at the start.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@_state_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    name: str,
    kind: str | None,
    server: str | None,
    cwd: Path,
    startup_script: Path | None,
    verbose: bool,
    state_dir: Path,
    arguments: tuple[str, ...],
) -> None:
    """Run an enrolled agent until it is stopped. ARGUMENTS after `--` are handed to the coding CLI."""
    logs.configure(logging.INFO if verbose else logging.WARNING, "%(asctime)s %(levelname)s %(message)s")
    from onsembl.agent.program import AgentConfig, run_agent  # what only POSIX systems have

    folder = state_dir / name
    try:
        enrolled = store.load(folder)
        config = AgentConfig(
            folder=folder,
            kind=AgentKind(kind or enrolled.kind),
            cwd=cwd.resolve(),
            version=version("onsembl"),
            server=server,
            arguments=arguments,
            startup_script=startup_script.resolve() if startup_script else None,
        )
        restart = asyncio.run(run_agent(config))
    except AgentError as error:
        raise click.ClickException(str(error)) from error
    if restart:
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 — this very program, as it was started
