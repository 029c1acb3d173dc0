"""The findings of `onsembl supabase check`, and the texts of the errors that a check may meet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
import psycopg
from supabase_auth.errors import AuthError

from onsembl.realtime.hosted import TransactionPooler
from onsembl.sql.migrate import FailedMigration, MigrationError, UnusablePublication

TOO_MANY = ("53300", "MaxClients", "max clients", "too many connections", "remaining connection slots")
"""The signs of an error that says that the database, the login or the pooler has no free connection."""
FREE_CONNECTIONS = (
    "Stop a process, give each fewer connections (ONSEMBL_DATABASE_CONNECTIONS), send statements to the transaction "
    "pooler (DATABASE_POOLER_URL), or raise the pool size in the project's database settings."
)
WRITABLE_AGAIN = (
    "The project's disk is full: delete data or take a larger plan, then wait until Supabase makes it writable again."
)
CHECK_KEYS = "Check SUPABASE_URL and the keys: copy them from the project's API settings."


class CheckFailed(Exception):
    """A check failed; `fix` says what to do."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    ok: bool
    detail: str
    fix: str = ""


async def find(name: str, check: Callable[[], Awaitable[str]]) -> Finding:
    """Run one check. Every error becomes a finding, too."""
    try:
        return Finding(name, True, await check())
    except CheckFailed as failure:
        return Finding(name, False, str(failure), failure.fix)
    except Exception as error:  # noqa: BLE001 — a check that fails unforeseen is a finding, not a traceback
        return Finding(name, False, first_line(error), fix_of(error))


def fix_of(error: Exception) -> str:
    """What to do about an error of the database, of Auth or of the network."""
    match error:
        case TransactionPooler():
            return "Use the direct connection or the session pooler (port 5432), not the transaction pooler."
        case FailedMigration(__cause__=psycopg.Error() as cause):
            return fix_of(cause)
        case UnusablePublication():
            return "Replace the publication as the text above says."
        case MigrationError():
            return "Use the Onsembl version that migrated the database, or a newer one."
        case psycopg.errors.ReadOnlySqlTransaction():
            return WRITABLE_AGAIN
        case psycopg.errors.InsufficientPrivilege():
            return "Connect as the owner of the project's database, which is the user `postgres`."
        case psycopg.Error():
            if any(sign in f"{error.sqlstate} {error}" for sign in TOO_MANY):
                return FREE_CONNECTIONS
            return "Check DATABASE_URL, and whether the project is paused."
        case AuthError() | httpx.HTTPError() | httpx.InvalidURL() | ValueError():
            return CHECK_KEYS
        case _:
            return "See whether the project is paused, and run the command again."


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
