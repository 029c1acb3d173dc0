"""Ports for programs that have to be told one, or to be found again where they were."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """One of this machine's that nobody uses, below those that the system hands out by itself: it stays free until it
    is taken, however many connections other tests open."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
