"""`onsembl login` and `onsembl logout`: the operator's session for commands that use the REST API."""

from __future__ import annotations

import click

from onsembl.cli.client.options import server_url
from onsembl.cli.client.rest_client import session_path, sign_in
from onsembl.cli.insecure import insecure_option
from onsembl.cli.output import print_line


@click.command()
@click.option(
    "--server",
    required=True,
    type=server_url,
    metavar="URL",
    envvar="ONSEMBL_SERVER",
    show_envvar=True,
    help="The control center's URL.",
)
@insecure_option
@click.option("--email", prompt="E-mail", help="The operator's e-mail address.")
@click.option(
    "--password",
    prompt=True,
    hide_input=True,
    envvar="ONSEMBL_OPERATOR_PASSWORD",
    show_envvar=True,
    help="The password. Prefer the prompt or the environment variable: other users see arguments.",
)
@click.option("--code", help="The code of your authenticator app, if your account has one; otherwise you are asked.")
def login(server: str, email: str, password: str, code: str | None) -> None:
    """Sign in as an operator. The session is stored for your user only."""
    session = sign_in(server, email, password, lambda: code or click.prompt("Code of your authenticator app"))
    print_line(f"Signed in at {session.server} as {email}.")


@click.command()
def logout() -> None:
    """Delete the session of `onsembl login` on this machine."""
    session_path().unlink(missing_ok=True)
    print_line("Signed out on this machine.")
