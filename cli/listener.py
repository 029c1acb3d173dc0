"""The port that a server listens on, taken before anything is started."""

from __future__ import annotations

import socket

from onsembl.cli.errors import StartError


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any that is free. Raises StartError."""
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise StartError(
            f"Port {port} on {host} cannot be used ({error.strerror or error}): another program may have it. "
            "Choose another with --port."
        ) from error
