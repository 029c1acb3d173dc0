"""The port that a server listens on, taken before anything is started."""

from __future__ import annotations

import errno
import os
import socket

from onsembl.cli.errors import StartError

BACKLOG = 2048
EVERY_ADDRESS: dict[str, str] = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what others listen on is looked up, not listened on


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any that is free. Raises StartError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number is not None and number > 0 else "there is no such host"
        option = "--port" if number in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise StartError(f"Port {port} on {host} cannot be used ({reason}). Choose another with {option}.") from error


def address_of(listener: socket.socket) -> str:
    """A URL that reaches it from this machine."""
    bound: tuple[str, int] = listener.getsockname()[:2]
    host, port = EVERY_ADDRESS.get(bound[0], bound[0]), bound[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
