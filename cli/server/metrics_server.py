"""A worker's metrics over HTTP: to this machine, or to whoever shows the token."""

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

from onsembl.cli.errors import StartError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SILENCE_SECONDS = 10.0
"""A client that says nothing for so long is left."""


class _Quiet(WSGIRequestHandler):
    timeout = SILENCE_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> Generator[None]:
    """Serve them while the block runs, with `ONSEMBL_METRICS_TOKEN` to whoever shows that.

    Raises StartError when the port cannot be had, or others would reach it and there is no token.
    """
    token = os.environ.get("ONSEMBL_METRICS_TOKEN") or None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if token is None and not ip_address(address[0]).is_loopback:
            raise StartError(f"Others reach {host}: set ONSEMBL_METRICS_TOKEN, which whoever reads the metrics shows.")
        server_class = type("_Server", (ThreadingMixIn, WSGIServer), {"address_family": family, "daemon_threads": True})
        server = make_server(str(address[0]), port, _app(registry, token), server_class, handler_class=_Quiet)
    except OSError as error:
        raise StartError(f"Metrics cannot be shown on {host}, port {port}: {error.strerror}.") from error
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
            return [b"This is not the token for metrics.\n"]
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
        return [generate_latest(registry)]

    return app
