"""The rules that would allow calls like one that a person is asked about, from the narrowest to the widest."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from onsembl.protocol.tool_rules import Rule, ToolRules, ToolUse

MAX_OFFERED = 4


def offered_rules(use: ToolUse, folder: str) -> list[str]:
    """Up to four rules, each of which allows the call. Every `*` in them was put there by us: a text that has one gets
    no rule of its own, since the rule would allow other texts, too. The last rule allows the tool, whatever it does."""
    tool = use.names[0]
    if tool == "other":  # of which nothing is known
        return []
    rules = [f"{tool}({pattern})" for pattern in _patterns(use, folder)][: MAX_OFFERED - 1]
    return [rule for rule in dict.fromkeys([*rules, tool]) if _is_rule(rule) and _allows(rule, use)]


def _patterns(use: ToolUse, folder: str) -> Iterator[str]:
    if not use.parts:
        return
    texts = [forms[0] for forms in use.parts]
    if len(set(texts)) == 1 and "*" not in texts[0]:
        yield texts[0]
    match use.names[-1]:
        case "execute":
            yield from _commands(texts)
        case "read" | "edit" | "search" if use.parts[0][-1].startswith("/"):
            yield from _folders(texts[0], folder)
        case "fetch":
            yield from _site(texts[0])
        case _:
            pass


def _commands(texts: list[str]) -> Iterator[str]:
    """All calls of the same program, with the same first argument, then with any."""
    words = [text.split() for text in texts]
    for count in (2, 1):
        beginnings = {tuple(parts[:count]) for parts in words if len(parts) > count}
        if len(beginnings) == 1 and all(len(parts) > count for parts in words):
            beginning = " ".join(next(iter(beginnings)))
            if "*" not in beginning and "=" not in beginning:
                yield f"{beginning} *"


def _folders(path: str, folder: str) -> Iterator[str]:
    """All files of the same folder, then all of the working directory."""
    parent = posixpath.dirname(path)
    if parent not in ("", "/") and "*" not in parent:
        yield f"{parent}/*"
    if not path.startswith("/") and "*" not in folder and folder != "/":
        yield f"{folder.rstrip('/')}/*"


def _site(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if parts.scheme in ("http", "https") and parts.netloc and "*" not in parts.netloc:
        yield f"{parts.scheme}://{parts.netloc}/*"


def _is_rule(rule: str) -> bool:
    try:
        msgspec.convert(rule, Rule)
    except msgspec.ValidationError:
        return False
    return True


def _allows(rule: str, use: ToolUse) -> bool:
    return ToolRules(allow=[rule]).allowance(use) is not None
