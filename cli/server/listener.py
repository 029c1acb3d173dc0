"""The socket that the server listens on, opened before anything else is started."""

from __future__ import annotations

import errno
import os
import socket

from onsembl.cli.errors import CliError

BACKLOG = 2048
EVERY_ADDRESS: dict[str, str] = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not listened on


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free port. Raises CliError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number is not None and number > 0 else "unknown host"
        option = "--port" if number in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise CliError(f"Port {port} on {host} cannot be used ({reason}). Choose another with {option}.") from error


def address_of(listener: socket.socket) -> str:
    """The URL at which this machine reaches `listener`."""
    bound: tuple[str, int] = listener.getsockname()[:2]
    host, port = EVERY_ADDRESS.get(bound[0], bound[0]), bound[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
