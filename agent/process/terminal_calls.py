"""Finds where a program calls for a person in its output: the bell, and notifications by OSC 9, 777 and 99. No I/O.

Output may be cut anywhere. The bell that ends an OSC sequence is no call, nor is any byte of another string sequence.
"""

from __future__ import annotations

import re
from typing import Literal

BELL = ""
"""The text of a call by the bell."""
MAX_STRING_BYTES = 4096
"""A longer string sequence is passed over: it is an image, or something else that is no notification."""
MAX_TEXT = 512

_GROUND = re.compile(rb"[\x07\x1b]")
_STRING_END = re.compile(rb"[\x07\x1b\x18\x1a]")
_PROGRESS = re.compile(r"\d{1,2}(;|$)")
"""OSC 9 with a number is ConEmu's progress bar, or another of its commands."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_STRINGS = b"]PX^_"
"""The bytes after ESC that begin a string: OSC, DCS, SOS, PM and APC."""


class TerminalCalls:
    """Reads a program's output; `feed` returns the texts of its calls."""

    def __init__(self) -> None:
        self._state: Literal["ground", "escape", "string", "string escape"] = "ground"
        self._is_osc = False
        self._string = bytearray()
        self._parts: list[str] = []
        """The texts of a notification by OSC 99 that is not complete."""

    def feed(self, data: bytes) -> list[str]:
        """The text of each call that is complete with these bytes; `BELL` for the bell."""
        calls: list[str] = []
        at = 0
        while at < len(data):
            match self._state:
                case "ground":
                    found = _GROUND.search(data, at)
                    if found is None:
                        break
                    at = found.end()
                    if found[0] == b"\x07":
                        calls.append(BELL)
                    else:
                        self._state = "escape"
                case "escape":
                    self._begin(data[at : at + 1], calls)
                    at += 1
                case "string":
                    at = self._in_string(data, at, calls)
                case "string escape":
                    if data[at : at + 1] == b"\\":
                        self._end(calls)
                        at += 1
                    else:  # the string is given up, and another sequence begins
                        self._state = "escape"
        return calls

    def _begin(self, byte: bytes, calls: list[str]) -> None:
        """The byte after ESC."""
        if byte == b"\x07":
            calls.append(BELL)  # a terminal obeys it within the sequence
        elif byte in _STRINGS:
            self._state, self._is_osc, self._string = "string", byte == b"]", bytearray()
        elif byte != b"\x1b":
            self._state = "ground"

    def _in_string(self, data: bytes, at: int, calls: list[str]) -> int:
        found = _STRING_END.search(data, at)
        end = found.start() if found is not None else len(data)
        if len(self._string) <= MAX_STRING_BYTES:
            self._string += data[at : min(end, at + MAX_STRING_BYTES + 1)]
        if found is None:
            return end
        if found[0] == b"\x1b":
            self._state = "string escape"
        elif found[0] in b"\x18\x1a":
            self._state = "ground"
        elif self._is_osc:
            self._end(calls)
        return found.end()

    def _end(self, calls: list[str]) -> None:
        self._state = "ground"
        if self._is_osc and len(self._string) <= MAX_STRING_BYTES:
            text = self._notification(self._string.decode(errors="replace"))
            if text is not None:
                calls.append(_CONTROLS.sub(" ", text).strip()[:MAX_TEXT])

    def _notification(self, osc: str) -> str | None:
        """The text of a notification; None for another sequence, or a part of one."""
        number, _, rest = osc.partition(";")
        match number:
            case "9":
                return None if _PROGRESS.match(rest) else rest
            case "777":
                kind, _, text = rest.partition(";")
                return ": ".join(filter(None, text.split(";", 1))) if kind == "notify" else None
            case "99":
                return self._kitty_notification(rest)
            case _:
                return None

    def _kitty_notification(self, rest: str) -> str | None:
        metadata, _, payload = rest.partition(";")
        fields: dict[str, str] = {}
        for pair in metadata.split(":"):
            name, _, value = pair.partition("=")
            fields[name] = value
        if fields.get("p", "title") not in ("title", "body"):
            return None
        if fields.get("e") != "1" and payload and sum(map(len, self._parts)) < MAX_TEXT:
            self._parts.append(payload)
        if fields.get("d") == "0":
            return None
        text, self._parts = ": ".join(self._parts), []
        return text
