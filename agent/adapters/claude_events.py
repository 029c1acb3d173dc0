"""Claude Code's `stream-json` output, read line by line and rendered for a terminal. No I/O.

The lines are those of `claude -p --output-format stream-json --verbose`: `system`, `assistant`, `user` (the results of
tools) and, last, `result`. Kinds that are not known are passed over, for the CLI adds some now and then.
"""

from __future__ import annotations

import textwrap
from typing import Any, cast

import msgspec

from onsembl.protocol.messages import Usage

MAX_RESULT_LINES = 12
MAX_INPUT = 200

DIM, BOLD, RED, CYAN, RESET = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[36m", "\x1b[0m"

Json = dict[str, Any]


class ClaudeEvents:
    """Feed it bytes as they come; it answers with bytes to show. `usage` and `error` are known at the end."""

    def __init__(self) -> None:
        self._rest = b""
        self._by_message: dict[str, Json] = {}
        self._model: str | None = None
        self._result: Json | None = None
        self.error: str | None = None

    def feed(self, data: bytes) -> bytes:
        """Whole lines are shown, the begun one is kept for later."""
        *lines, self._rest = (self._rest + data).split(b"\n") if b"\n" in data else [self._rest + data]
        return b"".join(self._line(line) for line in lines if line.strip())

    def end(self) -> bytes:
        """The output is over: show a last line that had no end."""
        rest, self._rest = self._rest, b""
        return self._line(rest) if rest.strip() else b""

    @property
    def usage(self) -> Usage | None:
        """Tokens counted once a message, or as the result sums them up; None when the CLI told nothing."""
        if self._result is not None and isinstance(self._result.get("usage"), dict):
            total = _tokens(self._result["usage"])
        elif self._by_message:
            total = [sum(counts) for counts in zip(*map(_tokens, self._by_message.values()), strict=True)]
        else:
            return None
        result = self._result or {}
        return Usage(
            input_tokens=total[0],
            output_tokens=total[1],
            cache_read_tokens=total[2],
            cache_write_tokens=total[3],
            cost_usd=result.get("total_cost_usd"),
            turns=result.get("num_turns"),
            model=self._model,
        )

    def _line(self, line: bytes) -> bytes:
        try:
            event = msgspec.json.decode(line)
        except msgspec.DecodeError:
            return _show(line.decode(errors="replace"))
        if not isinstance(event, dict):
            return b""
        return _show(self._event(cast("Json", event)))

    def _event(self, event: Json) -> str:
        match event.get("type"):
            case "system" if event.get("subtype") == "init":
                self._model = event.get("model")
                return f"{DIM}{self._model or 'claude'} · {event.get('cwd', '')}{RESET}"
            case "assistant":
                return self._assistant(event.get("message") or {})
            case "user":
                return "\n".join(filter(None, map(_tool_result, _content(event.get("message") or {}))))
            case "result":
                return self._take_result(event)
            case _:
                return ""

    def _assistant(self, message: Json) -> str:
        if isinstance(message.get("usage"), dict):
            # The same message comes in several lines, each with the usage so far.
            self._by_message[str(message.get("id"))] = message["usage"]
        return "\n".join(filter(None, map(_assistant_block, _content(message))))

    def _take_result(self, event: Json) -> str:
        self._result = event
        parts = [f"{event.get('duration_ms', 0) / 1000:.1f} s"]
        usage = self.usage
        if usage is not None:
            parts.append(f"{usage.input_tokens + usage.output_tokens:,} tokens")
        if isinstance(event.get("total_cost_usd"), int | float):
            parts.append(f"${event['total_cost_usd']:.4f}")
        if event.get("is_error"):
            self.error = str(event.get("result") or event.get("subtype"))[:256]
            return f"{RED}{self.error}{RESET}\n{DIM}{' · '.join(parts)}{RESET}"
        return f"{DIM}{' · '.join(parts)}{RESET}"


def _content(message: Json) -> list[Json]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []  # pyright: ignore[reportUnknownVariableType]


def _assistant_block(block: Json) -> str:
    match block.get("type"):
        case "text":
            return str(block.get("text", ""))
        case "thinking":
            return f"{DIM}{block.get('thinking', '')}{RESET}" if block.get("thinking") else ""
        case "tool_use":
            return f"{CYAN}● {BOLD}{block.get('name')}{RESET} {DIM}{_input(block.get('input'))}{RESET}"
        case _:
            return ""


def _input(value: object) -> str:
    """The one argument that says most, or all of them, on one line."""
    if isinstance(value, dict):
        arguments = cast("Json", value)
        for name in ("command", "file_path", "path", "pattern", "query", "url", "description", "prompt"):
            if isinstance(arguments.get(name), str):
                return textwrap.shorten(arguments[name], MAX_INPUT, placeholder=" …")
    return textwrap.shorten(msgspec.json.encode(value).decode(), MAX_INPUT, placeholder=" …")


def _tool_result(block: Json) -> str:
    if block.get("type") != "tool_result":
        return ""
    content = block.get("content")
    if isinstance(content, list):
        blocks = cast("list[Json]", content)
        content = "\n".join(str(part.get("text", "")) for part in blocks if part.get("type") == "text")
    lines = str(content or "").rstrip().split("\n")
    shown = lines[:MAX_RESULT_LINES]
    if len(lines) > MAX_RESULT_LINES:
        shown.append(f"… {len(lines) - MAX_RESULT_LINES} more lines")
    colour = RED if block.get("is_error") else DIM
    return "\n".join(f"{colour}  {line}{RESET}" for line in shown)


def _tokens(usage: Json) -> list[int]:
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return [int(usage.get(name) or 0) for name in names]


def _show(text: str) -> bytes:
    """Text as terminal lines."""
    return (text.replace("\r\n", "\n").replace("\n", "\r\n") + "\r\n").encode() if text else b""
