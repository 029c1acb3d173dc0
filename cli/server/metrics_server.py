"""A worker's metrics over HTTP: for this machine, or for clients with the token."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from ipaddress import ip_address
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from onsembl.cli.errors import CliError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SILENCE_SECONDS = 10.0
"""A client that sends nothing for this long is disconnected."""


class _Quiet(WSGIRequestHandler):
    timeout = SILENCE_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> Generator[None]:
    """Serve the metrics while the block runs; with `ONSEMBL_METRICS_TOKEN` set, to clients that send it.

    Raises CliError when the port is not available, or when other machines reach the host and no token is set.
    """
    token = os.environ.get("ONSEMBL_METRICS_TOKEN") or None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if token is None and not ip_address(address[0]).is_loopback:
            raise CliError(
                f"Other machines reach {host}. Set ONSEMBL_METRICS_TOKEN: clients must then send that token."
            )
        server_class = type("_Server", (ThreadingMixIn, WSGIServer), {"address_family": family, "daemon_threads": True})
        server = make_server(str(address[0]), port, _app(registry, token), server_class, handler_class=_Quiet)
    except OSError as error:
        raise CliError(f"Metrics cannot be served on {host}, port {port}: {error.strerror}.") from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _app(registry: CollectorRegistry, token: str | None) -> WSGIApplication:
    wanted = f"Bearer {token}".encode()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if token is not None and not secrets.compare_digest(environ.get("HTTP_AUTHORIZATION", "").encode(), wanted):
            start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")])
            return [b"The token is not valid for metrics.\n"]
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
        return [generate_latest(registry)]

    return app
