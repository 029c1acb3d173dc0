"""A server that plays a hosted Supabase project, for trying the hosted mode on one machine."""

from __future__ import annotations

import socket

from onsembl.cli.output import print_line
from onsembl.cli.server.serve import serve
from onsembl.realtime.auth.events import AuthEvent
from onsembl.realtime.builtin import BuiltinSupabase, create_project_app


def serve_project(database_url: str, listener: socket.socket) -> None:
    """Serve until a signal. Print the settings with which a control center uses this project."""
    address = "http://{}:{}".format(*listener.getsockname()[:2])
    builtin = BuiltinSupabase(database_url=database_url, issuer=f"{address}/auth/v1", on_event=_ignore)

    async def started() -> None:
        print_line("Serving a Supabase project. To use it:")
        print_line(f"export SUPABASE_URL={address}")
        print_line(f"export SUPABASE_PUBLISHABLE_KEY={builtin.publishable_key}")
        print_line(f"export SUPABASE_SECRET_KEY={builtin.secret_key}")

    async def stopping() -> None:
        return

    serve(create_project_app(builtin), [listener], started, stopping)


async def _ignore(_event: AuthEvent) -> None:
    """Record nothing: a hosted project has an audit log of its own."""
