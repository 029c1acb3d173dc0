"""`onsembl instances`: the API processes that serve the control center."""

from __future__ import annotations

import click

from onsembl.cli.client.options import server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line


@click.command("instances")
@json_option
@server_option
def instances_command(as_json: bool, server: str | None) -> None:
    """List the API's instances, oldest first. Needs `onsembl login` as an admin."""
    with OperatorClient(server) as client:
        rows = client.request("GET", "/v1/instances")["instances"]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        state = "dead" if not row["alive"] else "draining" if row["draining_since"] is not None else "alive"
        viewers = "?" if row["viewers"] is None else row["viewers"]
        print_line(
            f"{row['id']}  {state:<8}  heartbeat {row['heartbeat_age']:.0f} s ago  since {row['started_at'][:19]}  "
            f"{row['agents']} agents, {viewers} viewers  {row['release'] or 'does not answer'}  {row['address']}"
        )
