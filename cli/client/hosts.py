"""`onsembl hosts`: the machines on which agents can be started from here."""

from __future__ import annotations

from typing import Any

import click

from onsembl.cli.client.options import server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.errors import CliError
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_field, print_line


@click.group("hosts")
def hosts_group() -> None:
    """List and delete machines that run `onsembl agent host`. Needs `onsembl login` as an admin."""


@hosts_group.command("list")
@json_option
@server_option
def list_hosts(as_json: bool, server: str | None) -> None:
    """List the hosts, by name, with what their owners allow."""
    with OperatorClient(server) as client:
        hosts = client.request("GET", "/v1/hosts")["hosts"]
    if as_json:
        print_json(hosts)
        return
    for host in hosts:
        state = "connected" if host["connected"] else "offline"
        print_line(
            f"{host['name']:<24} {state:<10} {host['running']} of {host['max_agents']} agents  {host['machine']}"
        )
        print_field("  kinds", ", ".join(host["kinds"]), 10)
        print_field("  folders", ", ".join(host["folders"]), 10)


@hosts_group.command()
@click.argument("name")
@json_option
@server_option
def delete(name: str, as_json: bool, server: str | None) -> None:
    """Delete the host NAME: its secret is revoked, its program ends, and its agents go offline."""
    with OperatorClient(server) as client:
        host = client.request("DELETE", f"/v1/hosts/{host_named(client, name)['id']}")
    if as_json:
        print_json(host)
    else:
        print_line(f"{name} is deleted.")


def host_named(client: OperatorClient, name: str) -> dict[str, Any]:
    """The host of this name or id. Raises CliError."""
    for host in client.request("GET", "/v1/hosts")["hosts"]:
        if name in (host["name"], host["id"]):
            return host
    raise CliError(f"There is no host named {name}. Hosts: onsembl hosts list")
