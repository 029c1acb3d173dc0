"""The script in a prompt, by which a scripted model answers.

The last text of the user is the script. Directives in it, in any order, shape the answer:

    [run: COMMAND]          first ask the CLI to run COMMAND with its shell tool, then answer with what it printed
    [call: NAME {JSON}]     ask the CLI to call its tool NAME with these arguments
    [say: TEXT]             answer with exactly this; `]` is possible only in JSON
    [recall: N]             answer with the user's N-th text of the conversation, from 1, without its directives
    [slow: N]               spread the answer over N seconds, to interrupt it half way
    [words: N]              answer with N numbered words
    [tokens: N] [input: N]  report N output tokens, N input tokens
    [cache: READ WRITE]     report that many tokens read from the cache and written to it
    [fail: CODE TIMES]      answer with this HTTP status, TIMES times (always, without it)
    [before: FILE]          write FILE.at and wait for FILE.go, then answer
    [within: FILE]          wait so after the first word of the answer

Several [run] and [call] are steps: the next is asked for when the one before has its result. Calls joined by `&` are
asked for together: [call: Bash {"command": "touch a"} & Bash {"command": "touch b"}]. A JSON value may hold directives
of its own, such as the prompt of a subagent; OUTPUT.name in it is that field of the last result. Without a directive
the answer is the prompt's first 80 characters.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_DIRECTIVE = re.compile(r"\[(run|call|say|recall|slow|words|tokens|input|cache|fail|before|within):\s*")
_CALL_NAME = re.compile(r"\s*&?\s*([\w.\-/]+)\s*")
_CALLS = ("run", "call")
_SHELL = ""
"""Stands for the CLI's own shell tool in a step."""
Call = tuple[str, dict[str, Any]]


def _directives(text: str) -> tuple[list[tuple[str, Any]], str]:
    """The directives in order, and the text without them. JSON values are skipped over, not searched."""
    found: list[tuple[str, Any]] = []
    plain: list[str] = []
    at = 0
    while match := _DIRECTIVE.search(text, at):
        plain.append(text[at : match.start()])
        at, name = match.end(), match[1]
        if name == "call":
            calls: list[Call] = []
            while head := _CALL_NAME.match(text, at):
                at = head.end()
                arguments: dict[str, Any] = {}
                if text[at : at + 1] == "{":
                    arguments, at = json.JSONDecoder().raw_decode(text, at)
                calls.append((head[1], arguments))
            found.append((name, calls))
        else:
            end = at
            if name == "say" and text[at : at + 1] in ("{", "["):
                _, end = json.JSONDecoder().raw_decode(text, at)
            end = text.find("]", end)
            found.append((name, text[at : end if end >= 0 else len(text)]))
            at = end if end >= 0 else len(text)
        at = text.find("]", at) + 1 or len(text)
    return found, "".join([*plain, text[at:]]).strip()


_ADDED = re.compile(
    r"<(system-reminder|session_context|environment_context|user_instructions|skills_instructions|"
    r"permissions_instructions|permissions instructions|subagent_notification)>.*?</\1>",
    re.DOTALL,
)


async def stay(file: str) -> None:
    """Write FILE.at, and wait until FILE.go is there."""
    Path(f"{file}.at").touch()
    while not Path(f"{file}.go").exists():
        await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Said:
    """What a request to the model has: the user's texts, and the outputs of the tools since the last of them."""

    texts: list[str]
    outputs: list[str]


def plain(text: str) -> str:
    """A text without what a CLI adds to it."""
    return _ADDED.sub("", text).strip()


@dataclass(frozen=True)
class Script:
    """What a text of the user asks of the model."""

    prompt: str
    steps: list[list[Call]] = field(default_factory=list[list[Call]])
    values: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, text: str) -> Script:
        try:
            listed, prompt = _directives(text)
        except ValueError as error:
            return cls(f"bad directive: {error}")
        steps = [[(_SHELL, {"command": value})] if name == "run" else value for name, value in listed if name in _CALLS]
        return cls(prompt, steps, {name: value for name, value in listed if name not in _CALLS})

    def calls(self, outputs: list[str], shell: str) -> list[Call]:
        """The tool calls to ask for now, when these have come back. `shell` is the CLI's shell tool."""
        done = len(outputs)
        for step in self.steps:
            if done <= 0:
                return [(name or shell, _filled(arguments, outputs)) for name, arguments in step]
            done -= len(step)
        return []

    def answer(self, said: Said) -> str:
        """The text of the answer."""
        if "say" in self.values:
            return self.values["say"]
        if "recall" in self.values:
            return Script.of(said.texts[int(self.values["recall"]) - 1]).prompt
        if "words" in self.values:
            return " ".join(f"word{number}" for number in range(int(self.values["words"])))
        if said.outputs:
            return f"The command printed: {said.outputs[-1].strip()[:2000]}"
        return f"Scripted answer: {self.prompt[:80]}"


def _filled(arguments: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
    """The arguments with fields of the last output, which is JSON."""
    text = json.dumps(arguments)
    for name in set(re.findall(r"OUTPUT\.(\w+)", text)):
        text = text.replace(f"OUTPUT.{name}", str(json.loads(outputs[-1])[name]))
    return json.loads(text)


@dataclass(frozen=True)
class Answer:
    """What the model answers: tool calls, else a text over this many seconds. `tokens` are those that it reports, and
    `within` is the file for which it waits after the first word."""

    number: int
    calls: list[Call]
    text: str
    seconds: float
    tokens: Mapping[str, int]
    within: str | None

    @classmethod
    def to(cls, script: Script, said: Said, shell: str | None, number: int) -> Answer:
        """The answer to a request. `shell` is the CLI's shell tool; None when it offers no tools."""
        text = script.answer(said)
        read, written = map(int, script.values.get("cache", "0 0").split())
        tokens = {
            "input_tokens": int(script.values.get("input", 100)),
            "output_tokens": int(script.values.get("tokens", len(text) // 4 + 1)),
            "cache_read_tokens": read,
            "cache_write_tokens": written,
        }
        calls = script.calls(said.outputs, shell) if shell is not None else []
        return cls(number, calls, text, float(script.values.get("slow", 0)), tokens, script.values.get("within"))

    async def pieces(self) -> AsyncIterator[str]:
        """The text, word by word."""
        pieces = re.findall(r"\S+\s*", self.text) or [self.text]
        for number, piece in enumerate(pieces):
            yield piece
            if number == 0 and self.within is not None:
                await stay(self.within)
            if self.seconds:
                await asyncio.sleep(self.seconds / len(pieces))
