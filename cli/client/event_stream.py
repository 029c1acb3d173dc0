"""Follows the event feed over server-sent events, and continues after a lost connection where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from onsembl.cli.client.rest_client import POLL_PATIENCE_SECONDS, OperatorClient, ServerUnavailable
from onsembl.cli.errors import CliError

RETRY_SECONDS = 1.0


@dataclass(slots=True)
class EventParser:
    """Reads server-sent events from lines; `last_id` is the cursor after those that were read."""

    last_id: str | None = None
    _kind: str = ""
    _data: list[str] = field(default_factory=list[str])

    def events(self, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The kind and the data of each event. A part of an event at the end of the lines is none."""
        self._kind, self._data = "", []
        last_id = self.last_id
        for line in lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name if line else "end":
                case "end":
                    self.last_id = last_id
                    kind, data = self._kind or "message", "\n".join(self._data)
                    self._kind, self._data = "", []
                    if data:
                        yield kind, data
                case "id":
                    last_id = value
                case "event":
                    self._kind = value
                case "data":
                    self._data.append(value)
                case _:
                    pass  # a comment, or a field of a later version


def follow_events(client: OperatorClient, after: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Events after the cursor, as they happen, without end. Raises CliError."""
    parser = EventParser()
    parameters = {name: value for name, value in query.items() if value is not None}
    heard = time.monotonic()
    while True:
        headers = {"Accept": "text/event-stream"}
        if parser.last_id is not None:
            headers["Last-Event-ID"] = parser.last_id
        try:
            with client.lines("/v1/events", {**parameters, "after": after}, headers) as lines:
                for kind, data in parser.events(lines):
                    heard = time.monotonic()
                    read = json.loads(data)
                    if kind == "closed":
                        if read["permanent"]:
                            raise CliError(read["reason"])
                        break
                    yield read
        except ServerUnavailable:
            if time.monotonic() - heard > POLL_PATIENCE_SECONDS:
                raise
        time.sleep(RETRY_SECONDS)
