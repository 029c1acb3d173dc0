"""`onsembl login`: sign in as an operator, for the commands that work through the REST API."""

from __future__ import annotations

import click

from onsembl.cli.client.rest_client import session_path, sign_in


@click.command()
@click.option(
    "--server", required=True, envvar="ONSEMBL_SERVER", show_envvar=True, help="The control center's address."
)
@click.option("--email", prompt="E-mail", help="Who signs in.")
@click.option(
    "--password",
    prompt=True,
    hide_input=True,
    envvar="ONSEMBL_OPERATOR_PASSWORD",
    show_envvar=True,
    help="Better asked for, or in the environment: arguments can be seen by others.",
)
def login(server: str, email: str, password: str) -> None:
    """Sign in; the session is kept for this user only."""
    session = sign_in(server.rstrip("/"), email, password)
    click.echo(f"Signed in at {session.server} as {email}.")


@click.command()
def logout() -> None:
    """Forget the session that `onsembl login` kept."""
    session_path().unlink(missing_ok=True)
    click.echo("Signed out here.")
