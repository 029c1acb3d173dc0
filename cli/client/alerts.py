"""`onsembl alerts`: list and acknowledge security alerts."""

from __future__ import annotations

import click

from onsembl.cli.client.options import server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line


@click.group("alerts")
def alerts_group() -> None:
    """List and acknowledge alerts, such as a reused refresh token. Needs `onsembl login`."""


@alerts_group.command("list")
@click.option("--all", "include_acknowledged", is_flag=True, help="Include acknowledged alerts.")
@json_option
@server_option
def list_alerts(include_acknowledged: bool, as_json: bool, server: str | None) -> None:
    """List open alerts, newest first."""
    with OperatorClient(server) as client:
        alerts = client.request("GET", "/v1/alerts")["alerts"]
    rows = [alert for alert in alerts if include_acknowledged or alert["acknowledged_at"] is None]
    if as_json:
        print_json(rows)
        return
    for alert in rows:
        state = "acknowledged" if alert["acknowledged_at"] is not None else "open"
        print_line(f"{alert['id']:>6}  {alert['at'][:19]}  {state:<12} {alert['text']}")


@alerts_group.command()
@click.argument("alert_id", type=click.IntRange(1))
@json_option
@server_option
def acknowledge(alert_id: int, as_json: bool, server: str | None) -> None:
    """Acknowledge the alert ALERT_ID. Needs an operator."""
    with OperatorClient(server) as client:
        alert = client.request("POST", f"/v1/alerts/{alert_id}/acknowledge", {})
    if as_json:
        print_json(alert)
    else:
        print_line(f"Alert {alert['id']} is acknowledged.")
