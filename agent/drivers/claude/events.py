"""Translates Claude Code's `stream-json` output, line by line, into text for a terminal. No I/O.

The lines come from `claude -p --output-format stream-json --verbose --include-partial-messages`: `system`,
`stream_event` (pieces of a message while the model writes it), `assistant` (a whole block of a message), `user` (the
results of tools) and, last, `result`. Unknown kinds are skipped, for new versions of the CLI add some. As seen with
version 2.1.197.
"""

from __future__ import annotations

import textwrap
from typing import Any, cast

import msgspec

from onsembl.agent.terminal import printable
from onsembl.protocol.usage import Usage

MAX_RESULT_LINES = 12
MAX_LINE = 400
MAX_INPUT = 200
MAIN_ARGUMENTS = ("command", "file_path", "path", "pattern", "query", "url", "description", "prompt")
"""The first of these arguments that a tool has is shown, instead of all its arguments."""

DIM, BOLD, RED, CYAN, RESET = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[36m", "\x1b[0m"

Json = dict[str, Any]


class ClaudeEvents:
    """`feed` takes the CLI's output as it comes and returns bytes to show. `usage` and `error` are final at the end."""

    def __init__(self) -> None:
        self._unfinished: list[bytes] = []
        self._tokens_by_message: dict[str, list[int]] = {}
        self._model: str | None = None
        self._result: Json | None = None
        self._streamed: str | None = None
        """The id of the message whose pieces were shown as they came; its whole blocks are not shown again."""
        self._open_line = False
        self._shown_error = ""
        self.error: str | None = None
        self.over_budget = False
        """Whether the CLI stopped at its cost limit."""

    def feed(self, data: bytes) -> bytes:
        """Render the whole lines; an unfinished line is kept until its end comes."""
        first, *others = data.split(b"\n")
        self._unfinished.append(first)
        if not others:
            return b""
        lines = [b"".join(self._unfinished), *others[:-1]]
        self._unfinished = [others[-1]]
        return b"".join(self._line(line) for line in lines if line.strip())

    def end(self) -> bytes:
        """Render a last line that has no line feed, at the end of the output."""
        unfinished, self._unfinished = b"".join(self._unfinished), []
        shown = self._line(unfinished) if unfinished.strip() else b""
        return shown + _lines(self._close_line())

    @property
    def usage(self) -> Usage | None:
        """The tokens that the result reports, and at least the sum over the messages; None when there are neither.

        The result of an interrupted run reports no tokens; then only the messages tell them.
        """
        result = self._result or {}
        sums = [sum(counts) for counts in zip(*self._tokens_by_message.values(), strict=True)]
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
        """A piece of the message that the model writes now. Messages of subagents are shown when they are whole."""
        if parent is not None:
            return ""
        match event.get("type"):
            case "message_start":
                message = _object(event.get("message"))
                self._streamed = str(message.get("id"))
                self._count_message(self._streamed, message.get("usage"))
            case "message_delta" if self._streamed is not None:
                self._count_message(self._streamed, event.get("usage"))
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
        written = identity == self._streamed and event.get("parent_tool_use_id") is None
        if "error" in event:  # an error text of the CLI, in place of the model's message
            self._shown_error = "".join(str(block.get("text", "")) for block in _content(message))
            return f"{RED}{printable(self._shown_error)}{RESET}\n"
        return "".join(_assistant_block(block, written) for block in _content(message))

    def _count_message(self, identity: str, usage: object) -> None:
        """Count a message's tokens once, though several lines report its growing usage."""
        so_far = self._tokens_by_message.get(identity, [0, 0, 0, 0])
        self._tokens_by_message[identity] = [max(pair) for pair in zip(so_far, _tokens(usage), strict=True)]

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
    reported = [str(error) for error in cast("list[object]", errors)] if isinstance(errors, list) else []
    # Diagnostics for the CLI's own developers are left out.
    reported = [error for error in reported if not error.startswith("[ede_diagnostic]")]
    return "; ".join(reported) or str(result.get("terminal_reason") or result.get("subtype")).replace("_", " ")


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
    """A tool's main argument, or all its arguments, on one line."""
    arguments = _object(value)
    main = next((arguments[name] for name in MAIN_ARGUMENTS if isinstance(arguments.get(name), str)), None)
    text = msgspec.json.encode(value).decode() if main is None else main
    return textwrap.shorten(printable(text), MAX_INPUT, placeholder=" …")


def _user_block(block: Json) -> str:
    match block.get("type"):
        case "text":  # "[Request interrupted by user]", and texts of hooks and skills
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
    """Text with the line ends that a terminal needs."""
    return text.replace("\n", "\r\n").encode(errors="replace")
