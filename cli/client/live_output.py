"""The output of a running command, printed as it arrives."""

from __future__ import annotations

import time
from typing import Any

import httpx

from onsembl.cli.client.rest_client import OperatorClient, ServerUnavailable
from onsembl.cli.hints import command_line
from onsembl.cli.output import print_line, print_output
from onsembl.protocol.plain_text import Line, PlainText
from onsembl.protocol.stream import MAX_OFFSET

LAST_BYTES_SECONDS = 30.0
"""How long the last bytes of a command may take to reach the server's archive."""
RETRY_SECONDS = 0.2


class LiveOutput:
    """Reads a command's bytes from the recording of its terminal, and prints the lines that a person would read."""

    def __init__(self, client: OperatorClient) -> None:
        self._client = client
        self._stream_id: str | None = None
        self._position = 0
        self._text = PlainText()

    def read(self, command: dict[str, Any]) -> None:
        """Print the output that has arrived since the last call. `command` is its present row."""
        if command["stream_id"] is None or command["output_start"] is None:
            return
        if command["stream_id"] != self._stream_id:  # the first call, or the agent has begun another stream
            self._stream_id, self._position = command["stream_id"], command["output_start"]
        end = command["output_end"]
        if end is not None and self._position >= end:
            return
        # Without an end, the output would be that of the one stream: it may go on in another.
        query = {"start": str(self._position), "end": str(end if end is not None else MAX_OFFSET)}
        self._client.download(f"/v1/streams/{self._stream_id}/output", query, self._print, self._begin)

    def finish(self, command: dict[str, Any]) -> None:
        """Print the rest of the output of a command that has ended."""
        deadline = time.monotonic() + LAST_BYTES_SECONDS
        while True:
            try:
                self.read(command)
            except ServerUnavailable:
                if time.monotonic() > deadline:
                    raise
            missing = (command["output_end"] or 0) - self._position
            if self._stream_id is None or missing <= 0:
                break
            if time.monotonic() > deadline:
                later = command_line("export command", command["id"], "--format", "text")
                print_line(f"{missing} bytes of the output have not arrived yet. For all of it: {later}", err=True)
                break
            time.sleep(RETRY_SECONDS)
        rest = self._text.rest()
        if rest is not None:
            print_output(f"{rest.text}\n")

    def _begin(self, headers: httpx.Headers) -> None:
        start = int(headers["Onsembl-Start"])
        if start > self._position:
            print_line(f"{start - self._position} bytes of the output are no longer kept.", err=True)
            self._position = start

    def _print(self, data: bytes) -> None:
        print_output("".join(map(_written, self._text.feed(data))))
        self._position += len(data)


def _written(line: Line) -> str:
    return f"{line.text}\n" if line.ended else line.text
