"""`onsembl devices`: agents that ask to be let in by `onsembl agent login`."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import click

from onsembl.cli.client.rest_client import OperatorClient, server_option

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_code_argument = click.argument("code")


@click.group("devices")
def devices_group() -> None:
    """Agents that wait to be let in. Needs `onsembl login`, as an admin."""


@devices_group.command("list")
@_json_option
@server_option
def list_devices(as_json: bool, server: str | None) -> None:
    """Those that nobody has decided on, newest first."""
    with OperatorClient(server) as client:
        found = client.ask("GET", "/v1/device/requests")["requests"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for request in found:
        click.echo(_line(request))


@devices_group.command()
@_code_argument
@click.option("--name", help="Let it in under another name.")
@click.option("--replace", is_flag=True, help="As the agent of that name that there is, whose credentials end.")
@_json_option
@server_option
def approve(code: str, name: str | None, replace: bool, as_json: bool, server: str | None) -> None:
    """Let in the agent that shows CODE. Compare its name, host and address first: `onsembl devices list`."""
    _decide(server, code, "approve", {"name": name, "replace": replace}, as_json)


@devices_group.command()
@_code_argument
@_json_option
@server_option
def refuse(code: str, as_json: bool, server: str | None) -> None:
    """Turn away the agent that shows CODE."""
    _decide(server, code, "refuse", {}, as_json)


def _decide(server: str | None, code: str, verb: str, body: dict[str, Any], as_json: bool) -> None:
    with OperatorClient(server) as client:
        request = client.ask("GET", f"/v1/device/requests/{quote(code, safe='')}")
        request = client.ask("POST", f"/v1/device/requests/{request['id']}/{verb}", body)
    click.echo(json.dumps(request, indent=2) if as_json else f"{_line(request)}  {request['state']}")


def _line(request: dict[str, Any]) -> str:
    return (
        f"{request['user_code']}  {request['name']:<24} {request['kind']:<8} {request['host']:<24} {request['address']}"
    )
