"""The settings of a hosted or self-hosted Supabase project, which signs operators in and pushes the page's state."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from psycopg.conninfo import conninfo_to_dict

POOLER_PORT = 6543
LOCAL_HOSTS = ("", "localhost", "127.0.0.1", "::1")
ENCRYPTED_MODES = ("require", "verify-ca", "verify-full")


class IncompleteProject(ValueError):
    """`SUPABASE_URL` is set, but another variable is missing or wrong; the text names it."""


class TransactionPooler(ValueError):
    """The database URL leads to a pooler in transaction mode, which gives a connection away after each transaction."""

    def __init__(self, sign: str) -> None:
        super().__init__(
            f"DATABASE_URL leads to a transaction pooler ({sign}). Such a pooler gives the connection to another "
            "client after each transaction, so LISTEN, session locks and SET ROLE do not last, and Onsembl needs them. "
            "Use the direct connection (port 5432 of db.<project>.supabase.co) or the session pooler (port 5432 of "
            "<region>.pooler.supabase.com); the transaction pooler can be given as DATABASE_POOLER_URL beside it."
        )


@dataclass(frozen=True, slots=True)
class HostedProject:
    """The project's address and keys. `issuer` is the `iss` claim of its access tokens."""

    url: str
    publishable_key: str
    secret_key: str = field(repr=False)
    issuer: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> HostedProject | None:
        """The project at `SUPABASE_URL`; None when the variable is not set. `SUPABASE_ISSUER` is for a self-hosted
        project whose tokens have another issuer. Raises IncompleteProject."""
        url = environment.get("SUPABASE_URL", "").strip().rstrip("/")
        if not url:
            return None
        if not url.startswith(("https://", "http://")):
            raise IncompleteProject(f"SUPABASE_URL must begin with https://, and is {url!r}.")
        names = ("SUPABASE_PUBLISHABLE_KEY", "SUPABASE_SECRET_KEY")
        keys = {name: environment.get(name, "").strip() for name in names}
        missing = [name for name, value in keys.items() if not value]
        if missing:
            raise IncompleteProject(f"SUPABASE_URL is set, so {' and '.join(missing)} must be set too.")
        if keys["SUPABASE_PUBLISHABLE_KEY"].startswith("sb_secret_"):
            raise IncompleteProject(
                "SUPABASE_PUBLISHABLE_KEY holds a secret key. Every browser gets this key: set it to the one "
                "that begins with sb_publishable_."
            )
        return cls(
            url=url,
            publishable_key=keys["SUPABASE_PUBLISHABLE_KEY"],
            secret_key=keys["SUPABASE_SECRET_KEY"],
            issuer=environment.get("SUPABASE_ISSUER", "").strip().rstrip("/") or f"{url}/auth/v1",
        )


def unprotected_address(database_url: str) -> str | None:
    """Why the connection to the database may be read on its way: it leaves this machine, and no `sslmode` requires
    encryption. None if it is protected."""
    parts = conninfo_to_dict(database_url)
    hosts = str(parts.get("hostaddr") or parts.get("host") or os.environ.get("PGHOST", "")).split(",")
    away = [host for host in hosts if host not in LOCAL_HOSTS and not host.startswith(("/", "@"))]
    mode = str(parts.get("sslmode") or os.environ.get("PGSSLMODE", "prefer"))
    if not away or mode in ENCRYPTED_MODES:
        return None
    return f"the connection to {away[0]} is not required to be encrypted (sslmode is {mode})"


def reject_transaction_pooler(database_url: str) -> None:
    """Raises TransactionPooler for a database URL, or `keyword=value` words, that leads to one recognisably."""
    if "://" in database_url:
        parts = urlsplit(database_url)
        query = parse_qs(parts.query)
        ports = re.findall(r":(\d+)(?:,|$)", parts.netloc.rpartition("@")[2]) + query.get("port", [])
        pgbouncer = query.get("pgbouncer", [""])[-1]
    else:
        words = dict(re.findall(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)", database_url))
        ports = words.get("port", "").strip("'").split(",")
        pgbouncer = words.get("pgbouncer", "").strip("'")
    if str(POOLER_PORT) in ports:
        raise TransactionPooler(f"port {POOLER_PORT}")
    if pgbouncer.lower() == "true":
        raise TransactionPooler("pgbouncer=true")
