"""The actor that the audit log names for commands that use the database directly."""

from __future__ import annotations

import getpass

from onsembl.sql.audit import Actor


def command_line_actor() -> Actor:
    """The user of this machine who runs the command."""
    return Actor("system", name=f"{getpass.getuser()} at the command line")
