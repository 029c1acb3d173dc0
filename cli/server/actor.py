"""Who acts at the command line, as the audit log names them."""

from __future__ import annotations

import getpass

from onsembl.sql.audit import Actor


def command_line_actor() -> Actor:
    """This machine's user, who can reach the database itself."""
    return Actor("system", name=f"{getpass.getuser()} at the command line")
