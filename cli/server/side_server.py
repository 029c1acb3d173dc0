"""A small HTTP server beside a worker's work, in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from onsembl.cli.errors import CliError

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

SILENCE_SECONDS = 10.0
"""A client that sends nothing for this long is disconnected."""


class _Quiet(WSGIRequestHandler):
    timeout = SILENCE_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        pass


def address_of_host(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    """The family and the IP address of a host to listen on. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return family, str(address[0])


@contextmanager
def serve(app: WSGIApplication, host: str, port: int, what: str) -> Generator[None]:
    """Serve the application while the block runs. Raises CliError when the port is not available; `what` begins its
    sentence."""
    try:
        family, address = address_of_host(host, port)
        server_class = type("_Server", (ThreadingMixIn, WSGIServer), {"address_family": family, "daemon_threads": True})
        server = make_server(address, port, app, server_class, handler_class=_Quiet)
    except OSError as error:
        raise CliError(f"{what} cannot be served on {host}, port {port}: {error.strerror}.") from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
