"""`onsembl operator`: the accounts of operators, in the built-in Supabase or in the hosted project."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import click

from onsembl.cli.errors import CliError
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line
from onsembl.cli.server.actor import command_line_actor
from onsembl.cli.server.database_url import running_database
from onsembl.cli.server.hosted_project import hosted_project
from onsembl.cli.server.options import data_dir_option, database_url_option
from onsembl.fleet import instance_messages
from onsembl.fleet.instance_messages import Broadcast
from onsembl.protocol.states import Role
from onsembl.realtime.builtin_operators import builtin_operators
from onsembl.realtime.hosted_operators import hosted_operators
from onsembl.realtime.operators import OperatorAccount, OperatorDirectory, OperatorError
from onsembl.sql import audit, operators
from onsembl.sql.database import connect

T = TypeVar("T")

_role_option = click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.OPERATOR.value,
    show_default=True,
    help="viewer: read only; operator: send commands; admin: everything.",
)


@click.group()
def operator() -> None:
    """Add, list, disable and enable operators."""


@operator.command()
@click.argument("email")
@_role_option
@database_url_option
@data_dir_option
def add(email: str, role: str, database_url: str | None, data_dir: Path) -> None:
    """Add an operator.

    The password is read from ONSEMBL_OPERATOR_PASSWORD. Without it a password is generated and printed once.
    """
    given = os.environ.get("ONSEMBL_OPERATOR_PASSWORD")
    password = given or secrets.token_urlsafe(12)
    _change("added", email, lambda directory: directory.add(email, password, Role(role)), database_url, data_dir)
    print_line(f"{email} can sign in as {role}.")
    if not given:
        print_line(f"Password: {password}   (shown this once)")


@operator.command("list")
@json_option
@database_url_option
@data_dir_option
def list_operators(as_json: bool, database_url: str | None, data_dir: Path) -> None:
    """List all operators."""
    accounts = _with_directory(lambda directory: directory.list(), database_url, data_dir)
    if as_json:
        print_json([_as_json(account) for account in accounts])
        return
    width = max((len(account.email) for account in accounts), default=0)
    for account in accounts:
        state = "disabled" if account.disabled else "enabled"
        last = f"{account.last_sign_in_at:%Y-%m-%d %H:%M}" if account.last_sign_in_at else "never signed in"
        print_line(f"{account.email:<{width}}  {account.role or 'no role':<8}  {state:<8}  {last}")


@operator.command("set-role")
@click.argument("email")
@click.argument("role", type=click.Choice([role.value for role in Role]))
@database_url_option
@data_dir_option
def set_role(email: str, role: str, database_url: str | None, data_dir: Path) -> None:
    """Change an operator's role."""
    _change("role_set", email, lambda directory: directory.set_role(email, Role(role)), database_url, data_dir)
    print_line(f"{email} is {role} from the next token refresh on.")


@operator.command()
@click.argument("email")
@database_url_option
@data_dir_option
def disable(email: str, database_url: str | None, data_dir: Path) -> None:
    """Disable an operator: end their sessions and reject further sign-ins."""
    _change("disabled", email, lambda directory: directory.disable(email), database_url, data_dir)
    print_line(f"{email} is disabled.")


@operator.command()
@click.argument("email")
@database_url_option
@data_dir_option
def enable(email: str, database_url: str | None, data_dir: Path) -> None:
    """Enable a disabled operator."""
    _change("enabled", email, lambda directory: directory.enable(email), database_url, data_dir)
    print_line(f"{email} is enabled.")


def _change(
    action: str,
    email: str,
    act: Callable[[OperatorDirectory], Awaitable[OperatorAccount]],
    database_url: str | None,
    data_dir: Path,
) -> None:
    """Change an operator, and record in the audit log which user of this machine did it."""
    account = _with_directory(act, database_url, data_dir)
    asyncio.run(_record(running_database(database_url, data_dir), action, account))


async def _record(url: str, action: str, account: OperatorAccount) -> None:
    event = audit.Event(
        actor=command_line_actor(),
        action=f"operator.{action}",
        target_kind="operator",
        target_id=str(account.id),
        detail={"email": account.email, "role": account.role},
    )
    async with await connect(url, role="onsembl_api") as conn:
        await audit.write(conn, event)
        if action == "disabled":
            await operators.disable(conn, account.id, account.email, account.role or Role.VIEWER)
        elif action == "enabled":
            await operators.enable(conn, account.id)
        await instance_messages.broadcast(conn, Broadcast(op="operator_changed", operator_id=account.id))


def _with_directory(act: Callable[[OperatorDirectory], Awaitable[T]], database_url: str | None, data_dir: Path) -> T:
    async def run() -> T:
        async with _directory(database_url, data_dir) as directory:
            return await act(directory)

    try:
        return asyncio.run(run())
    except OperatorError as error:
        raise CliError(str(error)) from error


@asynccontextmanager
async def _directory(database_url: str | None, data_dir: Path) -> AsyncGenerator[OperatorDirectory]:
    project = hosted_project()
    if project is not None:
        async with hosted_operators(project) as hosted:
            yield hosted
        return
    url = await asyncio.to_thread(running_database, database_url, data_dir)
    async with builtin_operators(url) as ours:
        yield ours


def _as_json(account: OperatorAccount) -> dict[str, object]:
    return {
        "id": str(account.id),
        "email": account.email,
        "role": account.role,
        "disabled": account.disabled,
        "created_at": account.created_at.isoformat(),
        "last_sign_in_at": account.last_sign_in_at.isoformat() if account.last_sign_in_at else None,
    }
