"""One connection of the Model Context Protocol (MCP): a coding CLI calls the agent's own tools. No I/O.

Messages are JSON-RPC 2.0, one a line: https://modelcontextprotocol.io. The few that a server of tools needs are here;
the official package would bring a web server to every agent's machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from onsembl.agent.drivers.json_lines import DroppedLine, Json, JsonLines, as_object, as_text, encode_line
from onsembl.agent.drivers.json_rpc import METHOD_NOT_FOUND

VERSIONS = ("2025-06-18", "2025-03-26", "2024-11-05")
"""The versions of the protocol that are spoken alike here, newest first."""
MAX_LINE_BYTES = 1024 * 1024
INVALID_REQUEST, INVALID_PARAMS = -32600, -32602
_ID = rb'"id"\s*:\s*(?P<id>\d{1,18}|"[^"\\]{1,200}")\s*'
_FIRST_ID = re.compile(rb'\s*\{\s*("jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID + b",")
_LAST_ID = re.compile(rb",\s*" + _ID + rb'(,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')
"""The id of a request at the begin or at the end of its line: clients write it there."""


@dataclass(frozen=True, slots=True)
class Call:
    """The CLI calls a tool; `number` is the request's id, of any type."""

    number: object
    tool: str
    arguments: Json


@dataclass(frozen=True, slots=True)
class CallCancelled:
    """The CLI does not wait for the result of a call any more."""

    number: object


class McpSession:
    """`receive` returns what the CLI calls, `respond` gives a call its result, `take_output` the bytes for the CLI.

    `tools` are the descriptions of the tools, as `tools/list` gives them.
    """

    def __init__(self, tools: Sequence[Json]) -> None:
        self._tools = tools
        self._names = {as_text(tool.get("name")) for tool in tools}
        self._lines = JsonLines(MAX_LINE_BYTES)
        self._to_send: list[bytes] = []

    def receive(self, data: bytes) -> list[Call | CallCancelled]:
        """Read bytes, which may be cut anywhere. A line that is no message is passed over; a request that is too long
        is answered with an error."""
        return [call for line in self._lines.feed(data) for call in self._line(line)]

    def respond(self, call: Call, text: str, *, failed: bool = False) -> None:
        """Give a call its result."""
        self._result(call.number, {"content": [{"type": "text", "text": text}], "isError": failed})

    def take_output(self) -> bytes:
        """The bytes for the CLI since the last call."""
        data = b"".join(self._to_send)
        self._to_send = []
        return data

    def _line(self, line: Json | str) -> Iterator[Call | CallCancelled]:
        if isinstance(line, DroppedLine):
            found = _FIRST_ID.match(line.head) or _LAST_ID.search(line.tail)
            number = msgspec.json.decode(found["id"]) if found is not None else None
            self._error(number, INVALID_REQUEST, f"A request has at most {MAX_LINE_BYTES:,} bytes.")
            return
        if isinstance(line, str) or not isinstance(line.get("method"), str):
            return  # no message, or the answer to a request, of which none is sent
        method, params = as_text(line.get("method")), as_object(line.get("params"))
        if "id" not in line:
            if method == "notifications/cancelled":
                yield CallCancelled(params.get("requestId"))
            return
        number = line["id"]
        if not isinstance(number, str | int):
            self._error(None, INVALID_REQUEST, "The id of a request is a string or a number.")
            return
        match method:
            case "initialize":
                asked = as_text(params.get("protocolVersion"))
                version = asked if asked in VERSIONS else VERSIONS[0]
                server = {"name": "onsembl", "title": "Onsembl Control Center", "version": "1"}
                self._result(number, {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server})
            case "ping":
                self._result(number, {})
            case "tools/list":
                self._result(number, {"tools": [*self._tools]})
            case "tools/call" if as_text(params.get("name")) in self._names:
                yield Call(number, as_text(params.get("name")), as_object(params.get("arguments")))
            case "tools/call":
                self._error(number, INVALID_PARAMS, "There is no such tool.")
            case _:
                self._error(number, METHOD_NOT_FOUND, "This server does not support the request.")

    def _result(self, number: object, result: Json) -> None:
        self._to_send.append(encode_line({"jsonrpc": "2.0", "id": number, "result": result}))

    def _error(self, number: object, code: int, message: str) -> None:
        error = {"code": code, "message": message}
        self._to_send.append(encode_line({"jsonrpc": "2.0", "id": number, "error": error}))
