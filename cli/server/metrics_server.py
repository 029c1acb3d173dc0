"""A worker's metrics over HTTP: for this machine, or for clients with the token."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from contextlib import AbstractContextManager
from ipaddress import ip_address
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from onsembl.cli.errors import CliError
from onsembl.cli.server.side_server import address_of_host, serve

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> AbstractContextManager[None]:
    """Serve the metrics while the block runs; with `ONSEMBL_METRICS_TOKEN` set, to clients that send it.

    Raises CliError when the port is not available, or when other machines reach the host and no token is set.
    """
    token = os.environ.get("ONSEMBL_METRICS_TOKEN") or None
    try:
        _, address = address_of_host(host, port)
    except OSError as error:
        raise CliError(f"Metrics cannot be served on {host}, port {port}: {error.strerror}.") from error
    if token is None and not ip_address(address).is_loopback:
        raise CliError(f"Other machines reach {host}. Set ONSEMBL_METRICS_TOKEN: clients must then send that token.")
    return serve(_app(registry, token), host, port, "Metrics")


def _app(registry: CollectorRegistry, token: str | None) -> WSGIApplication:
    wanted = f"Bearer {token}".encode()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if token is not None and not secrets.compare_digest(environ.get("HTTP_AUTHORIZATION", "").encode(), wanted):
            start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")])
            return [b"The token is not valid for metrics.\n"]
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
        return [generate_latest(registry)]

    return app
