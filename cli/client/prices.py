"""`onsembl prices`: the prices by which costs are estimated."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from onsembl.cli.client.options import server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line

_usd = click.FloatRange(0, 1_000_000)


@click.group("prices")
def prices_group() -> None:
    """Manage prices of models, by which a cost is estimated that the CLI does not report. Needs `onsembl login`."""


@prices_group.command("list")
@json_option
@server_option
def list_prices(as_json: bool, server: str | None) -> None:
    """List prices in USD per million tokens. The longest pattern that fits a model counts."""
    with OperatorClient(server) as client:
        prices = client.request("GET", "/v1/prices")["prices"]
    if as_json:
        print_json(prices)
        return
    for price in prices:
        print_line(_line(price))


@prices_group.command("set")
@click.argument("pattern")
@click.option("--input", "input_usd", type=_usd, required=True, help="Input, in USD per million tokens.")
@click.option("--output", "output_usd", type=_usd, required=True, help="Output.")
@click.option("--cache-read", "cache_read_usd", type=_usd, help="Read from a cache; by default as input.")
@click.option("--cache-write", "cache_write_usd", type=_usd, help="Written to a cache; by default as input.")
@click.option(
    "--from",
    "valid_from",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="The first day (UTC), by default today. Earlier prices stay valid for earlier days.",
)
@json_option
@server_option
def set_price(
    pattern: str, valid_from: datetime | None, as_json: bool, server: str | None, **usd: float | None
) -> None:
    """Set the prices of the models that fit PATTERN, in which * is any text. Needs an admin.

    Usage since that day without a cost gets one; a cost that is known stays.
    """
    body: dict[str, Any] = {"pattern": pattern, **{name: value for name, value in usd.items() if value is not None}}
    if valid_from is not None:
        body["valid_from"] = valid_from.date().isoformat()
    with OperatorClient(server) as client:
        price = client.request("PUT", "/v1/prices", body)
    if as_json:
        print_json(price)
        return
    print_line(_line(price))
    if price["estimated"]:
        print_line(f"{price['estimated']} turns got a cost.")


@prices_group.command()
@click.argument("price_id", type=click.IntRange(1))
@json_option
@server_option
def delete(price_id: int, as_json: bool, server: str | None) -> None:
    """Delete the prices PRICE_ID. Costs that were estimated by them stay. Needs an admin."""
    with OperatorClient(server) as client:
        price = client.request("DELETE", f"/v1/prices/{price_id}")
    if as_json:
        print_json(price)
    else:
        print_line(f"The prices of {price['pattern']} from {price['valid_from']} on are deleted.")


def _line(price: dict[str, Any]) -> str:
    return (
        f"{price['id']:>5}  {price['pattern']:<32} from {price['valid_from']}  input ${price['input_usd']:g}  "
        f"output ${price['output_usd']:g}  cache read ${price['cache_read_usd']:g}  "
        f"cache write ${price['cache_write_usd']:g}"
    )
