"""`onsembl alerts`: what an operator should look at."""

from __future__ import annotations

import json

import click

from onsembl.cli.client.rest_client import OperatorClient, server_option

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("alerts")
def alerts_group() -> None:
    """What should be looked at, as a refresh token that was used twice. Needs `onsembl login`."""


@alerts_group.command("list")
@click.option("--all", "every", is_flag=True, help="The latest of those that somebody has seen, too.")
@_json_option
@server_option
def list_alerts(every: bool, as_json: bool, server: str | None) -> None:
    """Those that wait, newest first."""
    with OperatorClient(server) as client:
        alerts = client.ask("GET", "/v1/alerts")["alerts"]
    found = [alert for alert in alerts if every or alert["acknowledged_at"] is None]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for alert in found:
        seen = "seen" if alert["acknowledged_at"] is not None else "waits"
        click.echo(f"{alert['id']:>6}  {alert['at'][:19]}  {seen:<6} {alert['text']}")


@alerts_group.command()
@click.argument("alert_id", type=click.IntRange(1))
@_json_option
@server_option
def acknowledge(alert_id: int, as_json: bool, server: str | None) -> None:
    """Say that the alert ALERT_ID was seen. Needs an operator."""
    with OperatorClient(server) as client:
        alert = client.ask("POST", f"/v1/alerts/{alert_id}/acknowledge", {})
    click.echo(json.dumps(alert, indent=2) if as_json else f"{alert['id']} is seen.")
