"""`onsembl enrolment-tokens`: one-time tokens that enrol agents without a person at the machine."""

from __future__ import annotations

import click

from onsembl.cli.client.options import server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line


@click.group("enrolment-tokens")
def enrolment_tokens_group() -> None:
    """Manage one-time tokens for `onsembl agent enrol`. Needs `onsembl login` as an admin."""


@enrolment_tokens_group.command("list")
@json_option
@server_option
def list_tokens(as_json: bool, server: str | None) -> None:
    """List unused tokens, newest first, without the token texts."""
    with OperatorClient(server) as client:
        tokens = client.request("GET", "/v1/enrolment-tokens")["tokens"]
    if as_json:
        print_json(tokens)
        return
    for token in tokens:
        until = token["expires_at"][:19]
        print_line(f"{token['id']}  {token['name_pattern']:<24} until {until}  {token['created_by_name']}")


@enrolment_tokens_group.command()
@click.option("--name-pattern", default="*", show_default=True, help="Allowed agent names, such as `build-*`.")
@click.option(
    "--expires-in",
    type=click.IntRange(60, 30 * 24 * 3600),
    default=3600,
    show_default=True,
    help="Token lifetime, in seconds.",
)
@json_option
@server_option
def create(name_pattern: str, expires_in: int, as_json: bool, server: str | None) -> None:
    """Create a token and print it. It is shown only once."""
    with OperatorClient(server) as client:
        token = client.request("POST", "/v1/enrolment-tokens", {"name_pattern": name_pattern, "expires_in": expires_in})
    if as_json:
        print_json(token)
    else:
        print_line(token["token"])


@enrolment_tokens_group.command()
@click.argument("token_id", type=click.UUID)
@json_option
@server_option
def withdraw(token_id: object, as_json: bool, server: str | None) -> None:
    """Withdraw the unused token TOKEN_ID."""
    with OperatorClient(server) as client:
        token = client.request("DELETE", f"/v1/enrolment-tokens/{token_id}")
    if as_json:
        print_json(token)
    else:
        print_line(f"Token {token['id']} is withdrawn.")
