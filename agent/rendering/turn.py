"""Shows the events of a turn in a terminal, for every coding CLI alike. No I/O.

A subagent's events are indented below the call that started it. The results of tools are folded, changes of files are
coloured, and no control sequence of a model or a tool reaches the terminal.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from onsembl.agent.rendering.markdown import RESET, MarkdownWriter
from onsembl.agent.rendering.requests import request_text
from onsembl.agent.rendering.text import first_lines, folded, more_lines, printable, shortened
from onsembl.protocol.request_events import RequestAnswered, RequestOpened, RequestWithdrawn
from onsembl.protocol.turn_events import (
    Diff,
    MessageChunk,
    MessageEnded,
    Notice,
    PermissionDenied,
    Plan,
    PlanStatus,
    Speaker,
    Steered,
    ToolCall,
    ToolCallEnded,
    TurnEnded,
    TurnEvent,
    TurnStarted,
)

DIM, BOLD, RED, GREEN, YELLOW, CYAN = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"
MAX_DIFF_LINES = 24
MAX_DIFF_TEXT = 64 * 1024
"""A longer text, in characters, is not compared line by line."""
MAX_DEPTH = 6
_PLAN_MARKS: dict[PlanStatus, str] = {"pending": "☐", "in_progress": "▶", "completed": "☑"}
_SPEAKER_STYLES: dict[Speaker, str] = {"agent": "", "thought": "2", "user": "2"}


class TurnRenderer:
    """`render` returns the text to show for an event; lines end in a line feed."""

    def __init__(self, width: Callable[[], int]) -> None:
        self._width = width
        self._writer: MarkdownWriter | None = None
        self._writing: tuple[str | None, Speaker] | None = None
        self._depths: dict[str, int] = {}
        self._calls: dict[str, str] = {}
        self._last_call = ""
        self._started: tuple[str, str] | None = None

    def render(self, event: TurnEvent) -> str:
        """The text for the next event of the run."""
        if isinstance(event, MessageChunk):
            return self._chunk(event)
        closed = self.close()
        match event:
            case MessageEnded():
                return closed
            case TurnStarted():
                return closed + self._turn_started(event)
            case ToolCall():
                return closed + self._call(event)
            case ToolCallEnded():
                return closed + self._result(event)
            case Plan():
                return closed + self._plan(event)
            case PermissionDenied():
                name = f"{printable(event.name)} {self._one_line(event.title)}".rstrip()
                line = f"{YELLOW}⊘ denied: {name} · {printable(event.reason)}{RESET}\n"
                return closed + self._indent(event.parent) + line
            case RequestOpened():
                lines = folded(f"{event.title}\n{request_text(event.body)}")
                return closed + self._marked("?", YELLOW, event.parent, ["Waits for a person: " + lines[0], *lines[1:]])
            case RequestAnswered():  # a denial is shown with its call
                return closed + ("" if event.denied else self._marked("✓", GREEN, event.parent, folded(event.text)))
            case RequestWithdrawn():
                return closed + self._marked("–", DIM, event.parent, [f"Not answered: {printable(event.reason)}"])
            case Steered():
                return closed + "".join(f"{CYAN}❯{RESET} {line}\n" for line in folded(event.text))
            case Notice(kind="unknown_output"):
                return closed + printable(event.text).rstrip("\n") + "\n"
            case Notice():
                colour = YELLOW if event.kind in ("retry", "rate_limit") else DIM
                return closed + "".join(
                    f"{self._indent(event.parent)}{colour}{line}{RESET}\n" for line in folded(event.text)
                )
            case TurnEnded():
                return closed + self._turn_ended(event)
            case _:
                return closed

    def _marked(self, mark: str, style: str, parent: str | None, lines: list[str]) -> str:
        indent = self._indent(parent)
        return "".join(
            f"{indent}{style}{mark if number == 0 else ' '} {line}{RESET}\n" for number, line in enumerate(lines)
        )

    def close(self) -> str:
        """End a message of which more could have come."""
        if self._writer is None:
            return ""
        shown, self._writer, self._writing = self._writer.end(), None, None
        return shown

    def _chunk(self, event: MessageChunk) -> str:
        closed = ""
        if self._writer is None or self._writing != (event.parent, event.speaker):
            closed = self.close()
            style = _SPEAKER_STYLES[event.speaker]
            self._writer = MarkdownWriter(self._width, self._indent(event.parent), style)
            self._writing = (event.parent, event.speaker)
        return closed + self._writer.feed(event.text)

    def _indent(self, parent: str | None) -> str:
        return "  " * min(MAX_DEPTH, self._depths.get(parent, 1)) if parent is not None else ""

    def _turn_started(self, event: TurnStarted) -> str:
        started = (event.model, event.permission_mode)
        if started == self._started:
            return ""
        self._started = started
        parts = [event.model or "unknown model", event.folder]
        parts += [f"permission mode {event.permission_mode}"] if event.permission_mode else []
        return f"{DIM}{printable(' · '.join(part for part in parts if part))}{RESET}\n"

    def _call(self, event: ToolCall) -> str:
        self._depths[event.id] = self._depths.get(event.parent, 1) + 1 if event.parent is not None else 1
        self._calls[event.id] = f"{printable(event.name)} {self._one_line(event.title)}".rstrip()
        self._last_call = event.id
        indent = self._indent(event.parent)
        shown = f"{indent}{CYAN}● {BOLD}{printable(event.name)}{RESET} {DIM}{self._one_line(event.title)}{RESET}\n"
        return shown + "".join(self._diff(diff, indent + "  ") for diff in event.diffs)

    def _one_line(self, text: str) -> str:
        return shortened(" ".join(printable(text[:4096]).split()), max(20, min(200, self._width() - 12)))

    def _diff(self, diff: Diff, indent: str) -> str:
        if diff.old is None or len(diff.old) + len(diff.new) > MAX_DIFF_TEXT:
            new, more = first_lines(diff.new, MAX_DIFF_LINES)
            lines = [f"+{line}" for line in new]
        else:
            old, new = (first_lines(text, MAX_DIFF_TEXT)[0] for text in (diff.old, diff.new))
            lines = list(difflib.unified_diff(old, new, n=2, lineterm=""))[2:]
            more = max(0, len(lines) - MAX_DIFF_LINES)
        shown = lines[:MAX_DIFF_LINES] + ([more_lines(more)] if more else [])
        return "".join(f"{indent}{_diff_colour(line)}{line}{RESET}\n" for line in shown)

    def _result(self, event: ToolCallEnded) -> str:
        indent = self._indent(event.parent) + "  "
        colour = RED if event.status == "failed" else DIM
        shown = ""
        if event.id != self._last_call and event.id in self._calls:  # calls side by side: name the one that ended
            shown = f"{indent}{DIM}↳ {self._calls[event.id]}{RESET}\n"
        self._last_call = ""
        lines = folded(event.text) if event.text.strip() else []
        lines += [f"[image: {printable(image)}]" for image in event.images]
        return shown + "".join(f"{indent}{colour}{line}{RESET}\n" for line in lines)

    def _plan(self, event: Plan) -> str:
        indent = self._indent(event.parent)
        lines = [f"{_PLAN_MARKS[entry.status]} {self._one_line(entry.content)}" for entry in event.entries]
        styles = ["" if entry.status == "in_progress" else DIM for entry in event.entries]
        return "".join(f"{indent}{style}{line}{RESET}\n" for style, line in zip(styles, lines, strict=True))

    def _turn_ended(self, event: TurnEnded) -> str:
        parts = [f"{event.seconds:.1f} s"] if event.seconds is not None else []
        if event.usage is not None:
            parts.append(f"{'≥' if event.usage.partial else ''}{event.usage.tokens:,} tokens")
            if event.usage.cost_usd is not None:
                parts.append(f"${event.usage.cost_usd:.4f}")
        error = "".join(f"{RED}{line}{RESET}\n" for line in folded(event.error)) if event.error else ""
        return f"{error}{DIM}{' · '.join(parts)}{RESET}\n"


def _diff_colour(line: str) -> str:
    return {"+": GREEN, "-": RED}.get(line[:1], DIM)
