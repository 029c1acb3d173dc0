"""One of the processes of `onsembl up --instances`: an API instance, or the built-in Realtime for all of them.

    python -m onsembl.cli.server.instance_process

Its parent opens the listening sockets and hands them down, and writes the settings to standard input, which it keeps
open: when it ends, so does this process. A line on standard output tells the parent that requests are answered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import socket
import sys
from typing import BinaryIO

import click

from onsembl.cli import logs
from onsembl.cli.server.process_plan import READY, ProcessPlan


def main() -> None:
    """Serve until a signal, or until the parent ends."""
    plan = _read(sys.stdin.buffer)
    logs.configure(logging.WARNING, part=plan.settings.process)
    from onsembl.api.app import create_app, drain
    from onsembl.api.realtime_process import create_realtime_app
    from onsembl.cli.server.serve import Failure, serve

    failure = Failure()
    app = (create_realtime_app if plan.realtime else create_app)(plan.settings, failure.report)

    async def draining(hurry: asyncio.Event) -> None:
        if not plan.realtime:
            await drain(app, hurry)

    async def started() -> None:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _parent_ended)
        os.write(sys.stdout.fileno(), READY)

    async def stopping() -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())

    listeners = [socket.socket(fileno=descriptor) for descriptor in plan.descriptors]
    serve(app, listeners, started, stopping, failure, draining)


def _read(stream: BinaryIO) -> ProcessPlan:
    plan = pickle.load(stream)  # noqa: S301 — our parent has written it
    assert isinstance(plan, ProcessPlan)
    return plan


def _parent_ended() -> None:
    """The parent holds the other end of standard input, and writes nothing more to it."""
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    try:
        main()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
