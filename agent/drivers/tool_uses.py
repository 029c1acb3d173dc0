"""What a tool call does, as rules see it: shell commands by their parts, files by their path, others by one text."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from onsembl.protocol.tool_rules import ToolUse

_JOINS = re.compile(r"&&|\|\||[;|\n]")
"""Between commands that run one after the other, or pass their output on."""
_NESTS = re.compile(r"[&;|\n\r(){}`<>]|\$\(")
"""Where a command may begin, wherever it stands. Quotes are not looked at: a part more is only stricter."""
_ASSIGNMENTS = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]{0,99}=[^\s'\"]{0,999}\s+)+")
MAX_TEXT = 100_000
"""Of a longer text only a rule without a pattern allows something, and its beginning is compared with denials."""


def shell_use(names: Sequence[str], command: str) -> ToolUse:
    """A command line. Each of its commands needs an allowance; one that nests others, redirects or runs in the
    background has no parts. A denial is looked for in each command, also in nested ones."""
    command, cut = command[:MAX_TEXT].strip(), len(command) > MAX_TEXT
    pieces = [piece.strip() for piece in _NESTS.split(command)]
    bare = [_ASSIGNMENTS.sub("", piece, count=1) if _ASSIGNMENTS.match(piece) else piece for piece in pieces]
    said = [text for text in dict.fromkeys([command, *pieces, *bare]) if text]
    plain = _JOINS.sub("", command)
    simple = not cut and "\r" not in command and _NESTS.search(plain) is None
    parts = [[part.strip()] for part in _JOINS.split(command) if part.strip()] if simple else []
    return ToolUse(names, said, parts)


def file_use(names: Sequence[str], path: str, folder: str) -> ToolUse:
    """A file: its path as it is given, whole, and below the working directory `folder`; with links resolved, too. Only
    the resolved path is allowed by a pattern."""
    if not path or "\0" in path or len(path) > MAX_TEXT:
        return ToolUse(names, [path[:MAX_TEXT]], [])
    whole = os.path.normpath(os.path.join(folder, path))  # noqa: PTH118 — a path of text, which may not exist
    resolved = [_below(os.path.realpath(whole), os.path.realpath(folder)), os.path.realpath(whole)]
    return ToolUse(names, [path, whole, _below(whole, os.path.normpath(folder)), *resolved], [resolved])


def files_use(names: Sequence[str], paths: Sequence[str], folder: str) -> ToolUse:
    """A change of several files: each needs an allowance, and one that is denied denies all."""
    uses = [file_use(names, path, folder) for path in paths]
    said = dict.fromkeys(text for use in uses for text in use.said)
    parts = [forms for use in uses for forms in use.parts] if all(use.parts for use in uses) else []
    return ToolUse(names, list(said), parts)


def _below(path: str, folder: str) -> str:
    """A path as it is seen from a folder that it is in; else the path."""
    return os.path.relpath(path, folder) if path.startswith(folder.rstrip("/") + "/") else path


def text_use(names: Sequence[str], text: str) -> ToolUse:
    """Any other call, by its main argument."""
    return ToolUse(names, [text[:MAX_TEXT]], [[text]] if len(text) <= MAX_TEXT else [])
