"""`onsembl keys`: the keys that sign the access tokens of agents, and of operators with the built-in sign-in."""

from __future__ import annotations

import asyncio
import secrets
from datetime import datetime
from pathlib import Path

import click

from onsembl.api.auth.agent_keys import new_private_pem
from onsembl.cli.errors import CliError
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line
from onsembl.cli.server.actor import command_line_actor
from onsembl.cli.server.database_url import running_database
from onsembl.cli.server.hosted_project import hosted_project
from onsembl.cli.server.options import data_dir_option, database_url_option
from onsembl.fleet import instance_messages
from onsembl.fleet.instance_messages import Broadcast
from onsembl.realtime.auth.signing_keys import RotationTooSoon, builtin_signing_keys
from onsembl.sql import audit, signing_keys
from onsembl.sql.database import connect


@click.group()
def keys() -> None:
    """List and rotate the keys that sign access tokens."""


@keys.command("list")
@json_option
@database_url_option
@data_dir_option
def list_keys(as_json: bool, database_url: str | None, data_dir: Path) -> None:
    """List the valid keys of agents' tokens, newest first. The first one signs."""
    rows = asyncio.run(_valid_keys(running_database(database_url, data_dir)))
    if as_json:
        print_json(rows)
        return
    for number, row in enumerate(rows):
        until = f"verifies until {row['retired_at']}" if row["retired_at"] else "verifies"
        print_line(f"{row['kid']}  created {row['created_at']}  {'signs' if number == 0 else until}")


@keys.command()
@click.option("--operators", is_flag=True, help="Rotate the key of operators' tokens, which the built-in sign-in uses.")
@click.option(
    "--revoke",
    is_flag=True,
    help="Reject tokens of the old keys at once, because a key leaked. Clients reconnect with new tokens.",
)
@database_url_option
@data_dir_option
def rotate(operators: bool, revoke: bool, database_url: str | None, data_dir: Path) -> None:
    """Create a new signing key and use it from now on.

    Agents stay connected. Tokens of the old key stay valid until they expire, minutes later.
    """
    url = running_database(database_url, data_dir)
    if operators:
        if hosted_project() is not None:
            raise CliError("The hosted project signs operators' tokens. Rotate its keys at Supabase.")
        try:
            kid = asyncio.run(_rotate_operators(url, revoke))
        except RotationTooSoon as error:
            raise CliError(str(error)) from error
    else:
        kid = asyncio.run(_rotate_agents(url, revoke))
    print_line(f"{'Operators' if operators else 'Agents'}' tokens are now signed by key {kid}.")


async def _valid_keys(url: str) -> list[dict[str, str | None]]:
    async with await connect(url, role="onsembl_api") as conn:
        rows = await signing_keys.live(conn)
    return [
        {"kid": row["kid"], "created_at": _time(row["created_at"]), "retired_at": _time(row["retired_at"])}
        for row in rows
    ]


def _time(at: datetime | None) -> str | None:
    return at.astimezone().isoformat(timespec="seconds") if at is not None else None


async def _rotate_agents(url: str, revoke: bool) -> str:
    kid = secrets.token_hex(8)
    async with await connect(url, role="onsembl_api") as conn:
        await signing_keys.rotate(conn, kid, new_private_pem(), revoke=revoke)
        await instance_messages.broadcast(conn, Broadcast(op="keys_changed"))
        await audit.write(conn, _rotated(kid, "agents", revoke))
    return kid


async def _rotate_operators(url: str, revoke: bool) -> str:
    async with builtin_signing_keys(url) as keys:
        await keys.load()
        kid = await keys.rotate(revoke=revoke)
    async with await connect(url, role="onsembl_api") as conn:
        await instance_messages.broadcast(conn, Broadcast(op="operator_keys_changed"))
        await audit.write(conn, _rotated(kid, "operators", revoke))
    return kid


def _rotated(kid: str, of: str, revoke: bool) -> audit.Event:
    return audit.Event(
        actor=command_line_actor(),
        action="keys.rotated",
        target_kind="key",
        target_id=kid,
        detail={"of": of, "revoke": revoke},
    )
