"""Finds a question to a person in the output of a CLI that should speak its protocol. No I/O and no clock.

As that of npx before it installs a CLI (`Ok to proceed? (y)`), of a CLI that does not trust its folder yet, or of ssh.
A program that waits for an answer which nobody can give says nothing more.
"""

from __future__ import annotations

import re

from onsembl.agent.rendering.text import folded

MAX_QUESTION = 100
"""The characters of a question that are shown."""
_KEPT_BYTES = 1024
"""Of a long line, its first byte and its end are kept."""
_QUESTION = re.compile(
    r"(\?|[\[(]y(es)?(/[^\])]*)?[\])]|[\[(]no?/y(es)?[\])]|\bpress (enter|return|any key)\b.*"
    r"|\b(password|passphrase|code|token|key)\b.{0,80}:)[\s:>]*$",
    re.IGNORECASE,
)


class PlainQuestion:
    """`output` and `errors` take what the CLI writes, in any pieces; `text` is the question that stands last there.

    Once the CLI has spoken its protocol, only its output counts: its error output may be that of a tool.
    """

    def __init__(self) -> None:
        self._output = _LastLine()
        self._errors = _LastLine()

    def output(self, data: bytes) -> None:
        """Take a piece of the output."""
        self._output.feed(data)

    def errors(self, data: bytes) -> None:
        """Take a piece of the error output."""
        self._errors.feed(data)

    @property
    def text(self) -> str | None:
        """The question, if the last line is one."""
        if (asked := self._output.question) is not None or self._output.protocol:
            return asked
        return self._errors.question


class _LastLine:
    """The last line of a stream that is not empty."""

    def __init__(self) -> None:
        self._line = b""
        self._ended = False
        self.protocol = False
        """Whether there was a line of the protocol."""

    def feed(self, data: bytes) -> None:
        for number, part in enumerate(data.split(b"\n")):
            self._ended = self._ended or number > 0
            if part.strip() or not self._ended:
                line = part if self._ended else self._line + part
                self._line = line if len(line) <= _KEPT_BYTES else line[:1] + line[1 - _KEPT_BYTES :]
                self._ended = False
                self.protocol = self.protocol or line.startswith(b"{")

    @property
    def question(self) -> str | None:
        if self._line.startswith(b"{"):
            return None
        text = "".join(folded(self._line.decode(errors="replace"))[-1:]).strip()
        return text[-MAX_QUESTION:] if _QUESTION.search(text) else None
