"""`onsembl agent mcp`: passes the lines of a coding CLI to the agent that started it, and the agent's lines back.

The agent's address and the secret come from the environment. The agent speaks the protocol itself, so that this program
starts quickly: a CLI starts it as often as it likes.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress

SOCKET_VARIABLE, SECRET_VARIABLE = "ONSEMBL_TOOLS_SOCKET", "ONSEMBL_TOOLS_SECRET"
MAX_SECRET = 128


class PipeError(Exception):
    """The agent cannot be reached; the text says why."""


def run() -> None:
    """Pass lines until one side ends. Raises PipeError."""
    path, secret = os.environ.get(SOCKET_VARIABLE), os.environ.get(SECRET_VARIABLE)
    if not path or not secret:
        raise PipeError("This program is started by a coding CLI that an Onsembl agent runs.")
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        agent.connect(path)
        agent.sendall(secret.encode() + b"\n")
    except OSError as error:
        raise PipeError(f"The Onsembl agent cannot be reached: {error.strerror}.") from error
    threading.Thread(target=_send, args=(agent,), daemon=True).start()
    with suppress(OSError):  # the CLI is gone, or the agent has closed the connection with lines unread
        while data := agent.recv(65536):
            os.write(1, data)


def _send(agent: socket.socket) -> None:
    """Pass the CLI's lines on until its end."""
    try:
        while data := os.read(0, 65536):
            agent.sendall(data)
        agent.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the agent is gone, which ends the program


def main() -> int:
    """Run as a program of its own; return the exit status."""
    try:
        run()
    except PipeError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
