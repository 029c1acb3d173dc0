"""`onsembl agent`: enrol an agent on this machine, and run it."""

from __future__ import annotations

import asyncio
import logging
import re
from importlib.metadata import version
from pathlib import Path

import click
import platformdirs

from onsembl.agent import credentials as store
from onsembl.agent.enrolment import enrol as enrol_at
from onsembl.agent.errors import AgentError
from onsembl.agent.program import ADAPTERS, AgentConfig, run_agent
from onsembl.protocol.states import AgentKind

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


@click.group()
def agent() -> None:
    """Enrol and run an agent on this machine."""


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not _NAME.match(value):
        raise click.BadParameter("letters, digits, '.', '_' and '-', at most 64, the first a letter or digit")
    return value


_name_option = click.option("--name", required=True, callback=_name, help="The agent's name, unique on its server.")
_state_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=platformdirs.user_state_path("onsembl") / "agents",
    show_default=True,
    help="Where agents keep their credentials and journals.",
)


@agent.command()
@click.option("--server", required=True, help="The control center's address, as https://onsembl.example.org.")
@_name_option
@click.option("--kind", type=click.Choice([kind.value for kind in ADAPTERS]), required=True, help="What it runs.")
@_state_option
def enrol(server: str, name: str, kind: str, state_dir: Path) -> None:
    """Make this machine an agent by a one-time token, which is asked for.

    For machines without a person, the token may be in ONSEMBL_ENROLMENT_TOKEN. It is never an argument: the list of
    processes would show it.
    """
    token = _enrolment_token()
    try:
        credentials = asyncio.run(enrol_at(server.rstrip("/"), token, name, AgentKind(kind)))
    except AgentError as error:
        raise click.ClickException(f"The agent was not enrolled: {error}") from error
    store.save(state_dir / name, credentials)
    click.echo(f"Enrolled as {name}. Start it with: onsembl agent run --name {name}")


def _enrolment_token() -> str:
    import os

    return os.environ.get("ONSEMBL_ENROLMENT_TOKEN") or str(click.prompt("Enrolment token", hide_input=True))


@agent.command()
@_name_option
@click.option("--kind", type=click.Choice([kind.value for kind in ADAPTERS]), help="What it runs; as enrolled.")
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
    cwd: Path,
    startup_script: Path | None,
    verbose: bool,
    state_dir: Path,
    arguments: tuple[str, ...],
) -> None:
    """Run an enrolled agent until it is stopped. ARGUMENTS after `--` are handed to the coding CLI."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    folder = state_dir / name
    try:
        enrolled = store.load(folder)
        config = AgentConfig(
            folder=folder,
            kind=AgentKind(kind or enrolled.kind),
            cwd=cwd.resolve(),
            version=version("onsembl"),
            arguments=arguments,
            startup_script=startup_script.resolve() if startup_script else None,
        )
        asyncio.run(run_agent(config))
    except AgentError as error:
        raise click.ClickException(str(error)) from error
