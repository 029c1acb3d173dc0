"""The address at which a worker is woken: it answers while the worker runs.

A proxy that starts a stopped machine on a request (Fly's does) waits for the answer: it shows that the worker runs.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from onsembl.cli.server.side_server import serve

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def serve_wake(host: str, port: int) -> AbstractContextManager[None]:
    """Answer requests to wake the worker while the block runs; with `ONSEMBL_WORKER_WAKE_SECRET` set, only those that
    send it as bearer token. Raises CliError when the port is not available."""
    secret = os.environ.get("ONSEMBL_WORKER_WAKE_SECRET") or None
    wanted = f"Bearer {secret}".encode()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if secret is not None and not secrets.compare_digest(environ.get("HTTP_AUTHORIZATION", "").encode(), wanted):
            start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer")])
        elif environ["REQUEST_METHOD"] != "POST":
            start_response("405 Method Not Allowed", [("Allow", "POST")])
        else:
            start_response("204 No Content", [])
        return []

    return serve(app, host, port, "Requests to wake the worker")
