"""The Postgres that the tests use: the embedded one, or an installed one named by ONSEMBL_TEST_POSTGRES_BIN."""

from __future__ import annotations

import os
from pathlib import Path

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

PROGRAMS = "ONSEMBL_TEST_POSTGRES_BIN"
"""The folder of an installed Postgres' programs, such as /usr/lib/postgresql/15/bin. Tests of `onsembl up` always use
the embedded one."""


class InstalledPostgres(EmbeddedPostgres):
    """A server with the programs of an installed Postgres, which may be of an older version."""

    locale_options = ("--locale=C.UTF-8",)  # Postgres has built-in locales from version 17 on.

    @property
    def programs(self) -> Path:
        return Path(os.environ[PROGRAMS])


server_of = InstalledPostgres if os.environ.get(PROGRAMS) else EmbeddedPostgres
"""The class of the servers that the tests start."""
