"""The Postgres that tests run on: the embedded one, or the one whose programs are in ONSEMBL_TEST_POSTGRES_BIN."""

from __future__ import annotations

import os
from pathlib import Path

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

PROGRAMS = "ONSEMBL_TEST_POSTGRES_BIN"
"""Such as /usr/lib/postgresql/15/bin. Tests of `onsembl up` run on the embedded one all the same."""


class InstalledPostgres(EmbeddedPostgres):
    """A server of one folder, by programs that are installed: of an older version, too."""

    locale_options = ("--locale=C.UTF-8",)  # before 17 there is no built-in one

    def _binaries(self) -> Path:
        return Path(os.environ[PROGRAMS])


server_of = InstalledPostgres if os.environ.get(PROGRAMS) else EmbeddedPostgres
"""The class of the servers that tests run on."""
