"""Claude Code's `stream-json` output, read line by line and rendered for a terminal. No I/O.

The lines are those of `claude -p --output-format stream-json --verbose --include-partial-messages`: `system`,
`stream_event` (pieces of a message while the model writes it), `assistant` (a whole block of one), `user` (the results
of tools) and, last, `result`. Kinds that are not known are passed over, for the CLI adds some now and then. As seen
with 2.1.197.
"""

from __future__ import annotations

import textwrap
from typing import Any, cast

import msgspec

from onsembl.agent.process.terminal import printable
from onsembl.protocol.usage import Usage

MAX_RESULT_LINES = 12
MAX_LINE = 400
MAX_INPUT = 200
TELLING = ("command", "file_path", "path", "pattern", "query", "url", "description", "prompt")
"""The arguments of tools that say most, in that order."""

DIM, BOLD, RED, CYAN, RESET = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[36m", "\x1b[0m"

Json = dict[str, Any]


class ClaudeEvents:
    """Feed it bytes as they come; it answers with bytes to show. `usage` and `error` are known at the end."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._by_message: dict[str, list[int]] = {}
        self._model: str | None = None
        self._result: Json | None = None
        self._writing: str | None = None
        """The message whose pieces were shown as they came; its whole blocks are not shown again."""
        self._open_line = False
        self._shown_error = ""
        self.error: str | None = None
        self.over_budget = False
        """Whether it stopped at the cost that it was told not to pass."""

    def feed(self, data: bytes) -> bytes:
        """Whole lines are shown, the begun one is kept for later, however long it gets."""
        first, *others = data.split(b"\n")
        self._rest.append(first)
        if not others:
            return b""
        lines = [b"".join(self._rest), *others[:-1]]
        self._rest = [others[-1]]
        return b"".join(self._line(line) for line in lines if line.strip())

    def end(self) -> bytes:
        """The output is over: show a last line that had no end."""
        rest, self._rest = b"".join(self._rest), []
        shown = self._line(rest) if rest.strip() else b""
        return shown + _lines(self._close_line())

    @property
    def usage(self) -> Usage | None:
        """Tokens as the result sums them up, and at least those of the messages; None when the CLI told nothing.

        A run that was interrupted sums up to nothing, so that its messages are all there is to go by.
        """
        result = self._result or {}
        sums = [sum(counts) for counts in zip(*self._by_message.values(), strict=True)]
        total = _tokens(result.get("usage")) if self._result is not None else sums
        if not total and not sums:
            return None
        if sums:
            total = [max(pair) for pair in zip(total, sums, strict=True)]
        return Usage(
            input_tokens=total[0],
            output_tokens=total[1],
            cache_read_tokens=total[2],
            cache_write_tokens=total[3],
            cost_usd=_number(result.get("total_cost_usd")),
            turns=_count(result.get("num_turns")) if "num_turns" in result else None,
            model=self._model,
        )

    def _line(self, line: bytes) -> bytes:
        try:
            event = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _lines(self._close_line() + printable(line.decode(errors="replace")) + "\n")
        if not isinstance(event, dict):
            return b""
        return _lines(self._event(cast("Json", event)))

    def _event(self, event: Json) -> str:
        match event.get("type"):
            case "stream_event":
                return self._piece(_object(event.get("event")), event.get("parent_tool_use_id"))
            case "system" if event.get("subtype") == "init":
                self._model = printable(str(event.get("model") or "claude"))[:256]
                return f"{DIM}{self._model} · {printable(str(event.get('cwd', '')))}{RESET}\n"
            case "assistant":
                return self._close_line() + self._assistant(event)
            case "user":
                blocks = _content(_object(event.get("message")))
                return self._close_line() + "".join(map(_user_block, blocks))
            case "result":
                return self._close_line() + self._take_result(event)
            case _:
                return ""

    def _piece(self, event: Json, parent: object) -> str:
        """A piece of what the model writes now. Agents below this one write side by side: theirs come whole."""
        if parent is not None:
            return ""
        match event.get("type"):
            case "message_start":
                message = _object(event.get("message"))
                self._writing = str(message.get("id"))
                self._count_message(self._writing, message.get("usage"))
            case "message_delta" if self._writing is not None:
                self._count_message(self._writing, event.get("usage"))
            case "content_block_delta" if _object(event.get("delta")).get("type") == "text_delta":
                text = printable(str(_object(event.get("delta")).get("text", "")))
                if text:
                    self._open_line = not text.endswith("\n")
                return text
            case "content_block_stop":
                return self._close_line()
            case _:
                pass
        return ""

    def _close_line(self) -> str:
        if not self._open_line:
            return ""
        self._open_line = False
        return "\n"

    def _assistant(self, event: Json) -> str:
        message = _object(event.get("message"))
        identity = str(message.get("id"))
        self._count_message(identity, message.get("usage"))
        written = identity == self._writing and event.get("parent_tool_use_id") is None
        if "error" in event:  # the CLI's own words, in the place of a message that the model did not give
            self._shown_error = "".join(str(block.get("text", "")) for block in _content(message))
            return f"{RED}{printable(self._shown_error)}{RESET}\n"
        return "".join(_assistant_block(block, written) for block in _content(message))

    def _count_message(self, identity: str, usage: object) -> None:
        """Once, though it comes in several lines: each tells how far its usage has got."""
        so_far = self._by_message.get(identity, [0, 0, 0, 0])
        self._by_message[identity] = [max(pair) for pair in zip(so_far, _tokens(usage), strict=True)]

    def _take_result(self, event: Json) -> str:
        self._result = event
        parts = [f"{(_number(event.get('duration_ms')) or 0.0) / 1000:.1f} s"]
        usage = self.usage
        if usage is not None:
            parts.append(f"{usage.tokens:,} tokens")
            if usage.cost_usd is not None:
                parts.append(f"${usage.cost_usd:.4f}")
        summary = f"{DIM}{' · '.join(parts)}{RESET}\n"
        if not event.get("is_error"):
            return summary
        self.error = _error(event)
        self.over_budget = event.get("subtype") == "error_max_budget_usd"
        if self.error == self._shown_error:
            return summary
        return f"{RED}{printable(self.error)}{RESET}\n{summary}"


def _error(result: Json) -> str:
    if result.get("result"):
        return str(result["result"])
    errors = result.get("errors")
    told = [str(error) for error in cast("list[object]", errors)] if isinstance(errors, list) else []
    # What it says to its own developers helps nobody here.
    told = [error for error in told if not error.startswith("[ede_diagnostic]")]
    return "; ".join(told) or str(result.get("terminal_reason") or result.get("subtype")).replace("_", " ")


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _content(message: Json) -> list[Json]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_object(block) for block in cast("list[object]", content)] if isinstance(content, list) else []


def _assistant_block(block: Json, written: bool) -> str:
    match block.get("type"):
        case "text" if not written and block.get("text"):
            return printable(str(block["text"])) + "\n"
        case "thinking" if block.get("thinking"):
            return f"{DIM}{printable(str(block['thinking']))}{RESET}\n"
        case "tool_use":
            name = printable(str(block.get("name")))
            return f"{CYAN}● {BOLD}{name}{RESET} {DIM}{_input(block.get('input'))}{RESET}\n"
        case _:
            return ""


def _input(value: object) -> str:
    """The one argument that says most, or all of them, on one line."""
    arguments = _object(value)
    told = next((arguments[name] for name in TELLING if isinstance(arguments.get(name), str)), None)
    text = msgspec.json.encode(value).decode() if told is None else told
    return textwrap.shorten(printable(text), MAX_INPUT, placeholder=" …")


def _user_block(block: Json) -> str:
    match block.get("type"):
        case "text":  # "[Request interrupted by user]", and what hooks and skills put in
            return f"{DIM}{_abridged(str(block.get('text', '')))}{RESET}\n"
        case "tool_result":
            return _tool_result(block)
        case _:
            return ""


def _tool_result(block: Json) -> str:
    content = block.get("content")
    if isinstance(content, list):
        parts = [_object(part) for part in cast("list[object]", content)]
        content = "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
    colour = RED if block.get("is_error") else DIM
    return f"{colour}{_abridged(str(content or ''))}{RESET}\n"


def _abridged(text: str) -> str:
    lines = printable(text).rstrip().split("\n")
    shown = [line if len(line) <= MAX_LINE else line[: MAX_LINE - 1] + "…" for line in lines[:MAX_RESULT_LINES]]
    if len(lines) > MAX_RESULT_LINES:
        left = len(lines) - MAX_RESULT_LINES
        shown.append(f"… {left} more {'line' if left == 1 else 'lines'}")
    return "\n".join(f"  {line}" for line in shown)


def _tokens(usage: object) -> list[int]:
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return [_count(_object(usage).get(name)) for name in names]


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 2**53 else 0  # a bool is an int to isinstance


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 2**53 else None


def _lines(text: str) -> bytes:
    """Text as a terminal takes it."""
    return text.replace("\n", "\r\n").encode(errors="replace")
