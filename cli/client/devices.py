"""`onsembl devices`: approve or refuse the agents that `onsembl agent login` wants to enrol."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from onsembl.cli.client.options import server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line

_code_argument = click.argument("code")


@click.group("devices")
def devices_group() -> None:
    """Approve or refuse agents that ask to enrol. Needs `onsembl login` as an admin."""


@devices_group.command("list")
@json_option
@server_option
def list_devices(as_json: bool, server: str | None) -> None:
    """List open requests, newest first."""
    with OperatorClient(server) as client:
        requests = client.request("GET", "/v1/device/requests")["requests"]
    if as_json:
        print_json(requests)
        return
    for request in requests:
        print_line(_summary(request))


@devices_group.command()
@_code_argument
@click.option("--name", help="Enrol the agent under another name.")
@click.option("--replace", is_flag=True, help="Replace the existing agent of that name; its credentials are revoked.")
@json_option
@server_option
def approve(code: str, name: str | None, replace: bool, as_json: bool, server: str | None) -> None:
    """Approve the agent that shows CODE. Compare its name, host and address first: `onsembl devices list`."""
    _decide(server, code, "approve", {"name": name, "replace": replace}, as_json)


@devices_group.command()
@_code_argument
@json_option
@server_option
def refuse(code: str, as_json: bool, server: str | None) -> None:
    """Refuse the agent that shows CODE."""
    _decide(server, code, "refuse", {}, as_json)


def _decide(server: str | None, code: str, decision: str, body: dict[str, Any], as_json: bool) -> None:
    with OperatorClient(server) as client:
        request = client.request("GET", f"/v1/device/requests/{quote(code, safe='')}")
        request = client.request("POST", f"/v1/device/requests/{request['id']}/{decision}", body)
    if as_json:
        print_json(request)
    else:
        print_line(f"{_summary(request)}  {request['state']}")


def _summary(request: dict[str, Any]) -> str:
    return (
        f"{request['user_code']}  {request['name']:<24} {request['kind']:<8} {request['host']:<24} {request['address']}"
    )
