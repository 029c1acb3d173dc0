"""`onsembl enrolment-tokens`: one-time tokens for machines without a person."""

from __future__ import annotations

import json

import click

from onsembl.cli.client.rest_client import OperatorClient, server_option

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("enrolment-tokens")
def enrolment_tokens_group() -> None:
    """One-time tokens for `onsembl agent enrol`. Needs `onsembl login`, as an admin."""


@enrolment_tokens_group.command("list")
@_json_option
@server_option
def list_tokens(as_json: bool, server: str | None) -> None:
    """Those that may still be used, newest first; never the tokens themselves."""
    with OperatorClient(server) as client:
        found = client.ask("GET", "/v1/enrolment-tokens")["tokens"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for token in found:
        until = token["expires_at"][:19]
        click.echo(f"{token['id']}  {token['name_pattern']:<24} until {until}  {token['created_by_name']}")


@enrolment_tokens_group.command()
@click.option("--name-pattern", default="*", show_default=True, help="Which names it may enrol: `build-*`.")
@click.option(
    "--expires-in",
    type=click.IntRange(60, 30 * 24 * 3600),
    default=3600,
    show_default=True,
    help="For how many seconds it is good.",
)
@_json_option
@server_option
def create(name_pattern: str, expires_in: int, as_json: bool, server: str | None) -> None:
    """Make one, and print it, this once."""
    with OperatorClient(server) as client:
        token = client.ask("POST", "/v1/enrolment-tokens", {"name_pattern": name_pattern, "expires_in": expires_in})
    click.echo(json.dumps(token, indent=2) if as_json else token["token"])


@enrolment_tokens_group.command()
@click.argument("token_id", type=click.UUID)
@_json_option
@server_option
def withdraw(token_id: object, as_json: bool, server: str | None) -> None:
    """Have the token TOKEN_ID of the list enrol nobody."""
    with OperatorClient(server) as client:
        token = client.ask("DELETE", f"/v1/enrolment-tokens/{token_id}")
    click.echo(json.dumps(token, indent=2) if as_json else f"{token['id']} enrols nobody any more.")
