"""Ports for programs that need a fixed port, or the same port after a restart."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A free port below the system's range of ephemeral ports, so that no connection of another test takes it."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
