"""The Unix socket over which coding CLIs reach the agent's own tools. A secret is good for one command."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from onsembl.agent.drivers.json_lines import Json
from onsembl.agent.mcp.pipe import MAX_SECRET, SECRET_VARIABLE, SOCKET_VARIABLE
from onsembl.agent.mcp.session import Call, McpSession
from onsembl.agent.mcp.tools import DESCRIPTIONS, OperatorTools, Reply
from onsembl.protocol.turn_events import TurnEvent

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "onsembl.agent.mcp.pipe")
"""The same as `onsembl agent mcp`, which starts more slowly."""
MAX_CONNECTIONS = 16
"""Of one command; a CLI may start the server again, and its subagents have their own."""


def server_name(folder: Path | None) -> str:
    """The CLIs' name of the server of tools of the agent that keeps its state in `folder`.

    A server of the user that is called `onsembl` keeps its name, and is not taken for this one. The name stays the
    same, for the model's cache has the list of tools.
    """
    return f"onsembl-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


class ToolAccess:
    """The access of one command to its tools, whose server has this name. `show` gets the events of calls."""

    def __init__(self, name: str, path: Path, pending_seconds: float, close: Callable[[ToolAccess], None]) -> None:
        self.server_name = name
        self.secret = secrets.token_urlsafe(32)
        self.pending_seconds = pending_seconds
        self.tools = OperatorTools()
        self.show: Callable[[list[TurnEvent]], None] = lambda _events: None
        self.connections: set[asyncio.StreamWriter] = set()
        self._path = path
        self._close = close

    @property
    def environment(self) -> Mapping[str, str]:
        """What the CLI's processes need in their environment."""
        return {SOCKET_VARIABLE: str(self._path), SECRET_VARIABLE: self.secret}

    def mcp_config(self) -> str:
        """The configuration of the server, as JSON: the secret is named, not told."""
        server: Json = {"type": "stdio", "command": COMMAND[0], "args": [*COMMAND[1:]]}
        server["env"] = {name: f"${{{name}}}" for name in self.environment}
        return json.dumps({"mcpServers": {self.server_name: server}})

    def close(self) -> None:
        """End the access: the secret is not good any more."""
        self.tools.end()
        self._close(self)


class ToolGateway:
    """Listens in a folder that only this user can open. The agent keeps its state in `state`."""

    def __init__(self, state: Path | None = None) -> None:
        self._name = server_name(state)
        self._folder = tempfile.TemporaryDirectory(prefix="onsembl-")  # a socket's path may have 100 bytes
        self._path = Path(self._folder.name) / "tools"
        self._admitted: set[ToolAccess] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(self._path))
        os.chmod(self._path, 0o600)  # noqa: PTH101 — before it listens
        self._server = await asyncio.start_unix_server(self._serve, sock=listening)

    async def close(self) -> None:
        """Close all connections, and remove the socket."""
        for access in list(self._admitted):
            access.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._folder.cleanup()

    def admit(self, pending_seconds: float) -> ToolAccess | None:
        """Give a command access; None while the gateway does not listen. A call waits so long before it is pending."""
        if self._server is None:
            return None
        access = ToolAccess(self._name, self._path, pending_seconds, self._dismiss)
        self._admitted.add(access)
        return access

    def _dismiss(self, access: ToolAccess) -> None:
        self._admitted.discard(access)
        for writer in access.connections:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            access = self._access(await asyncio.wait_for(reader.readline(), 5.0))
            if access is not None:
                await self._converse(access, reader, writer)
        except (OSError, ValueError, TimeoutError):
            pass  # the CLI is gone, or no CLI
        except Exception:
            logger.exception("The agent's tools have failed", extra={"action": "tools_failed"})
        finally:
            writer.close()

    def _access(self, line: bytes) -> ToolAccess | None:
        secret = line.strip()[:MAX_SECRET]
        for access in self._admitted:
            if hmac.compare_digest(secret, access.secret.encode()) and len(access.connections) < MAX_CONNECTIONS:
                return access
        return None

    async def _converse(self, access: ToolAccess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = McpSession(DESCRIPTIONS)
        waiting: dict[object, tuple[Reply, asyncio.TimerHandle | None]] = {}
        loop = asyncio.get_running_loop()

        def reply(call: Call, text: str, failed: bool) -> None:
            _, timer = waiting.pop(call.number, (None, None))
            if timer is not None:
                timer.cancel()
            session.respond(call, text, failed=failed)
            writer.write(session.take_output())

        access.connections.add(writer)
        try:
            while data := await reader.read(65536):
                for call in session.receive(data):
                    if isinstance(call, Call):
                        answer = partial(reply, call)
                        waiting[call.number] = (
                            answer,
                            loop.call_later(access.pending_seconds, access.tools.pend, answer),
                        )
                        access.show(access.tools.call(call.tool, call.arguments, answer))
                    elif call.number in waiting:
                        answer, timer = waiting.pop(call.number)
                        if timer is not None:
                            timer.cancel()
                        access.show(access.tools.give_up(answer))
                writer.write(session.take_output())
                await writer.drain()
        finally:
            access.connections.discard(writer)
            for answer, timer in waiting.values():
                if timer is not None:
                    timer.cancel()
                access.show(access.tools.give_up(answer))
