"""A client's side of JSON-RPC 2.0 (https://www.jsonrpc.org/specification) with a coding CLI, one message a line. No
I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from onsembl.agent.drivers.json_lines import Json, JsonLines, as_object, as_text, encode_line
from onsembl.protocol.turn_events import TurnEvent

METHOD_NOT_FOUND = -32601

Continue = Callable[[Json], Iterator[TurnEvent]]
"""What is done with the result of a request."""


@dataclass(frozen=True, slots=True)
class Request:
    """The CLI asks for something; `number` is the request's id, of any type."""

    number: object
    method: str
    params: Json


@dataclass(frozen=True, slots=True)
class Notification:
    """The CLI tells of something."""

    method: str
    params: Json


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to a request of ours."""

    resume: Continue
    value: Json


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error in the place of the answer to a request of ours; `number` is what `ask` returned."""

    number: int
    method: str
    error: Json


@dataclass(frozen=True, slots=True)
class Unknown:
    """A line that is none of these: `text` is what it says, if it is no JSON object."""

    text: str | None


Message = Request | Notification | Result | Refusal | Unknown


class JsonRpc:
    """`receive` and `end` return the CLI's messages; `take_input` returns the bytes for its input.

    `versioned` says whether each message has the member `jsonrpc`.
    """

    def __init__(self, *, versioned: bool) -> None:
        self._head: Json = {"jsonrpc": "2.0"} if versioned else {}
        self._lines = JsonLines()
        self._to_send: list[bytes] = []
        self._requests = 0
        self._open: dict[int, tuple[str, Continue]] = {}

    def receive(self, data: bytes) -> Iterator[Message]:
        """Read output, which may be cut anywhere."""
        for line in self._lines.feed(data):
            yield self._read(line)

    def end(self) -> Iterator[Message]:
        """Read the last line at the end of the output."""
        for line in self._lines.end():
            yield self._read(line)

    def take_input(self) -> bytes:
        """The bytes for the CLI's input since the last call."""
        data = b"".join(self._to_send)
        self._to_send = []
        return data

    def waits_for(self, method: str) -> bool:
        """Whether a request of this method is not answered yet."""
        return any(asked == method for asked, _ in self._open.values())

    def ask(self, method: str, resume: Continue, **params: object) -> int:
        """Send a request; return its number."""
        self._requests += 1
        self._open[self._requests] = (method, resume)
        self._send({"id": self._requests, "method": method, "params": params})
        return self._requests

    def notify(self, method: str, **params: object) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params} if params else {"method": method})

    def answer(self, request: Request, result: Json) -> None:
        """Answer a request of the CLI."""
        self._send({"id": request.number, "result": result})

    def reject(self, request: Request) -> None:
        """Answer a request of the CLI that this client does not know."""
        error = {"code": METHOD_NOT_FOUND, "message": "This client does not support the request."}
        self._send({"id": request.number, "error": error})

    def _send(self, message: Json) -> None:
        self._to_send.append(encode_line({**self._head, **message}))

    def _read(self, line: Json | str) -> Message:
        if isinstance(line, str):
            return Unknown(line)
        if "method" in line:
            method, params = as_text(line.get("method")), as_object(line.get("params"))
            return Request(line["id"], method, params) if "id" in line else Notification(method, params)
        number = line.get("id")
        if type(number) is not int or number not in self._open:
            return Unknown(None)
        method, resume = self._open.pop(number)
        if "error" in line:
            return Refusal(number, method, as_object(line.get("error")))
        return Result(resume, as_object(line.get("result")))
