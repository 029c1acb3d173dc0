"""Follows a program's output as far as an agent has to know the screen: where the cursor is, and which modes are set.

An agent answers a program's queries and makes the terminal sane after it. For that it needs the cursor and the modes,
but not the text. `Emulation` is the part of an emulator that moves the cursor, as xterm.js does, which draws the
terminal on the page. No I/O.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from onsembl.protocol.text_width import columns as width_of

SCROLLBACK = 10_000
"""The lines above the screen that a page keeps."""
MAX_STRING = 4096
"""How much of a control string is kept; a longer one is followed to its end, but not understood."""
TAB = 8
MAX_TITLES = 10
"""The titles that a page keeps."""
ALTERNATE = (47, 1047, 1049)
MOUSE = (9, 1000, 1002, 1003)
ON_BY_DEFAULT = frozenset({7, 25})

_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|(?:\x1b\[|\x9b)(?P<prefix>[<=>?]?)(?P<params>[0-9:;]*)(?P<between>[ -/]*)(?P<final>[@-~])"
    r"|(?:\x1b(?P<string>[\]PX^_])|(?P<c1string>[\x90\x98\x9d-\x9f]))"
    r"|\x1b(?P<escape>[ -/]+[0-~]|[0-OQ-WYZ\\`-~])"
    r"|(?:\x1b\[|\x9b)(?P<broken>[^\x18\x1a\x1b\x80-\x9f@-~]*)[\x18\x1a@-~]"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f-\x9a\x9c-\x9f])"
)
_NARROW = re.compile("[ -~\u00a1-\u00ac\u00ae-\u02ff\u2500-\u259f\ufffd]+")
"""Text of which each character takes one column."""
_UNFINISHED = re.compile(r"(?:\x1b\[|\x9b)[^\x18\x1a\x1b\x80-\x9f@-~]*\Z|\x1b[ -/]*\Z")
_STRING_END = re.compile(r"[\x18\x1a\x9c]|\x1b\\|(?=\x1b[^\\])|(?P<bell>\x07)")
_C1_STRINGS = {"\x90": "P", "\x98": "X", "\x9d": "]", "\x9e": "^", "\x9f": "_"}
_MODES = re.compile(rb"\x1b(?:\[\?([0-9;]{1,60})([hl])|([c=>]))")


@dataclass(frozen=True, slots=True)
class Query:
    """A sequence that asks the terminal something: its introducer and its body, such as `CSI` and `?6n`."""

    kind: str
    body: str
    bell: bool = False
    """Whether an OSC ended with BEL, as its answer then does."""


@dataclass(slots=True)
class Screen:
    """One of the two screens. Rows and columns count from 0; `x` may be the number of columns, just before a wrap."""

    x: int = 0
    y: int = 0
    saved_x: int = 0
    saved_row: int = 0
    """The saved row, counted from the first line above the screen."""
    top: int = 0
    bottom: int = 0
    above: int = 0
    """The lines that have left the screen at its top."""
    lowest: int = -1
    """The lowest row on which something may be; -1 when there is none."""


@dataclass(slots=True)
class Emulation:
    """The cursor and the modes of a terminal of this size."""

    columns: int
    rows: int
    normal: Screen = field(default_factory=Screen)
    alternate: Screen = field(default_factory=Screen)
    in_alternate: bool = False
    modes: dict[int, bool] = field(default_factory=dict[int, bool])
    """The private modes that were set or reset."""
    insert: bool = False
    newline: bool = False
    colours: dict[str, str] = field(default_factory=dict[str, str])
    """The colours that the program has set, by the number of their OSC; those of the palette as `4;n`."""
    titles: int = 0
    """Titles that were pushed and not popped."""
    tabs: set[int] | None = None
    """The tab stops; None for one in every eight columns."""
    other_keys: bool = False
    """Whether the program has changed the encoding of keys beyond the modes."""
    unsure: bool = False
    """Whether output was passed over: anything may be set that the modes do not tell."""
    _string: str | None = None
    _content: str = ""
    _unfinished: str = ""
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    on_query: Callable[[Query], None] = lambda _query: None
    """Is called with each query, at its place in the output."""
    _last: str = ""

    def __post_init__(self) -> None:
        self.normal.bottom = self.alternate.bottom = self.rows - 1

    @property
    def screen(self) -> Screen:
        """The screen that is shown."""
        return self.alternate if self.in_alternate else self.normal

    @property
    def origin(self) -> bool:
        """Whether rows count from the top margin."""
        return self.modes.get(6, False)

    def mode(self, number: int) -> bool:
        """Whether a private mode is set."""
        return self.modes.get(number, number in ON_BY_DEFAULT)

    def feed(self, data: bytes) -> None:
        """Follow output."""
        text = self._unfinished + self._decoder.decode(data)
        self._unfinished = ""
        place = 0
        while place < len(text):
            if self._string is not None:
                place = self._in_string(text, place)
                continue
            token = _TOKEN.match(text, place)
            if token is None:
                if _UNFINISHED.match(text, place) and len(text) - place <= MAX_STRING:
                    self._unfinished = text[place:]
                    break
                place += 1  # an ESC that begins no sequence, or a sequence that another one cuts off
                if place < len(text) and text[place - 1] == "\x1b" and text[place] == "[":
                    place = self._skip_broken(text, place + 1)
                continue
            self._take(token)
            place = token.end()

    def skip(self, data: bytes) -> None:
        """Pass over a flood of output: the modes are followed, and the cursor is then at the bottom, at a column that
        is not known: no line counts as fresh before a carriage return."""
        self._string, self._content, self._unfinished = None, "", ""
        self._decoder.reset()
        for numbers, final, single in _MODES.findall(data):
            if single == b"c":
                self._reset()
            elif single:
                self.modes[66] = single == b"="
            else:
                for mode in (int(number) for number in numbers.split(b";") if number):
                    if mode in ALTERNATE:
                        self.in_alternate = final == b"h"
                    elif mode not in (6, 1048):
                        self._set_private(mode, final == b"h")
        self.unsure = True
        screen = self.screen
        screen.y = screen.lowest = self.rows - 1
        screen.x = max(screen.x, 1)
        self.normal.lowest = self.rows - 1

    def resize(self, columns: int, rows: int) -> None:
        """Take another size. Lines that wrap anew are not followed."""
        grown = rows - self.rows
        self.columns, self.rows = columns, rows
        for screen in (self.normal, self.alternate):
            if grown > 0 and screen is self.normal:
                back = min(grown, screen.above)
                screen.above -= back
                screen.y += back
                screen.lowest += back
            elif grown < 0 and screen is self.normal and screen.y >= rows:
                screen.above += screen.y - rows + 1
                screen.lowest -= screen.y - rows + 1
            screen.x, screen.y = min(screen.x, columns), min(screen.y, rows - 1)
            screen.lowest = max(-1, min(screen.lowest, rows - 1))
            screen.top, screen.bottom = 0, rows - 1

    @property
    def within_sequence(self) -> bool:
        """Whether the output so far ends within a sequence."""
        return self._string is not None or self._unfinished != ""

    @property
    def on_fresh_line(self) -> bool:
        """Whether the cursor is at the beginning of a line below everything that is on the screen."""
        return self.screen.x == 0 and self.screen.y > self.screen.lowest

    # Tokens

    def _take(self, token: re.Match[str]) -> None:
        match token.lastgroup:
            case "text":
                self._print(token["text"])
                return
            case "final":
                self._sequence(token["prefix"], token["params"], token["between"], token["final"])
            case "string":
                self._string, self._content = token["string"], ""
            case "c1string":
                self._string, self._content = _C1_STRINGS[token["c1string"]], ""
            case "escape":
                self._escape(token["escape"])
            case "broken":  # control characters within a sequence act before it; a broken sequence does nothing
                for character in token["broken"]:
                    if character < " ":
                        self._control(character)
                kept = "".join(character for character in token["broken"] if character >= " ")
                whole = _TOKEN.fullmatch("\x1b[" + kept + token[0][-1])
                if whole is not None and whole.lastgroup == "final":
                    self._take(whole)
            case _:
                self._control(token["control"])
        self._last = ""

    def _skip_broken(self, text: str, place: int) -> int:
        """Pass over a sequence that another one cuts off; its control characters act."""
        while place < len(text) and text[place] not in "\x18\x1a\x1b" and not "\x80" <= text[place] <= "\x9f":
            if text[place] < " ":
                self._control(text[place])
            place += 1
        return place

    def _in_string(self, text: str, place: int) -> int:
        end = _STRING_END.search(text, place)
        while end is not None and end["bell"] and self._string != "]":
            end = _STRING_END.search(text, end.end())  # only an OSC ends with BEL
        upto = end.start() if end is not None else len(text) - text.endswith("\x1b")
        self._content = (self._content + text[place:upto])[: MAX_STRING + 1]
        if end is None:
            self._unfinished = text[upto:]
            return len(text)
        aborted = end[0] in ("\x18", "\x1a")
        kind, content, self._string, self._content = self._string, self._content, None, ""
        if not aborted and len(content) <= MAX_STRING:
            if kind == "]":
                self._system_command(content, bell=end["bell"] is not None)
            elif kind == "P" and content[:2] in ("$q", "+q"):
                self._query("DCS", content)
        return end.end()

    def _query(self, kind: str, body: str, *, bell: bool = False) -> None:
        self.on_query(Query(kind, body, bell))

    # Text and control characters

    def _print(self, text: str) -> None:
        screen, columns = self.screen, self.columns
        if _NARROW.fullmatch(text) is not None and (self.mode(7) or screen.x + len(text) <= columns):
            self._print_narrow(len(text))
        else:
            for character in text:
                self._print_one(character)
        self._last = text[-1]

    def _print_narrow(self, count: int) -> None:
        screen, columns = self.screen, self.columns
        while count:
            if screen.x >= columns:
                screen.x = 0
                self._line_down()
            taken = min(count, columns - screen.x)
            screen.x += taken
            count -= taken
            screen.lowest = max(screen.lowest, screen.y)

    def _print_one(self, character: str) -> None:
        screen, width = self.screen, width_of(character)
        if screen.x + width > self.columns:
            if self.mode(7):
                screen.x = 0
                self._line_down()
            else:
                screen.x = self.columns - 1
                if width == 2:
                    return
        screen.x += width
        screen.lowest = max(screen.lowest, screen.y)

    def _control(self, character: str) -> None:
        screen = self.screen
        match character:
            case "\n" | "\v" | "\f":
                if self.newline:
                    screen.x = 0
                self._line_down()
                if screen.x >= self.columns:
                    screen.x -= 1
            case "\r":
                screen.x = 0
            case "\b":
                self._restrict()
                screen.x = max(0, screen.x - 1)
            case "\t":
                if screen.x < self.columns:
                    screen.x = self._next_tab(screen.x)
            case "\x84":
                self._index()
            case "\x85":
                screen.x = 0
                self._index()
            case "\x88":
                self._own_tabs().add(self.screen.x)
            case _:
                pass

    def _line_down(self) -> None:
        screen = self.screen
        screen.y += 1
        if screen.y == screen.bottom + 1:
            screen.y -= 1
            self._scrolled()
        else:
            screen.y = min(screen.y, self.rows - 1)

    def _scrolled(self) -> None:
        """The lines between the margins have moved up by one."""
        screen = self.screen
        if screen.top == 0 and screen is self.normal:
            screen.above = min(screen.above + 1, SCROLLBACK)
        if screen.lowest == screen.bottom and screen.top == 0:
            screen.lowest -= 1

    def _index(self) -> None:
        self._restrict()
        self._line_down()
        self._restrict()

    def _reverse_index(self) -> None:
        screen = self.screen
        self._restrict()
        if screen.y == screen.top:
            if screen.top <= screen.lowest <= screen.bottom:
                screen.lowest = min(screen.bottom, screen.lowest + 1)
        else:
            screen.y -= 1
            self._restrict()

    def _next_tab(self, x: int) -> int:
        if self.tabs is None:
            return min(self.columns - 1, (x // TAB + 1) * TAB)
        return min((stop for stop in self.tabs if x < stop < self.columns), default=self.columns - 1)

    def _previous_tab(self, x: int) -> int:
        if self.tabs is None:
            return max(0, (x - 1) // TAB * TAB)
        return max((stop for stop in self.tabs if stop < x), default=0)

    def _own_tabs(self) -> set[int]:
        if self.tabs is None:
            self.tabs = set(range(0, self.columns, TAB))
        return self.tabs

    # The cursor

    def _restrict(self) -> None:
        screen = self.screen
        screen.x = min(self.columns - 1, max(0, screen.x))
        least, most = (screen.top, screen.bottom) if self.origin else (0, self.rows - 1)
        screen.y = min(most, max(least, screen.y))

    def _move_to(self, x: int, y: int) -> None:
        screen = self.screen
        screen.x, screen.y = x, y + screen.top if self.origin else y
        self._restrict()

    def _move_by(self, x: int, y: int) -> None:
        self._restrict()
        self._move_to(self.screen.x + x, self.screen.y + y)

    def _up(self, count: int) -> None:
        room = self.screen.y - self.screen.top
        self._move_by(0, -min(room, count) if room >= 0 else -count)

    def _down(self, count: int) -> None:
        room = self.screen.bottom - self.screen.y
        self._move_by(0, min(room, count) if room >= 0 else count)

    def _save(self) -> None:
        screen = self.screen
        screen.saved_x, screen.saved_row = screen.x, screen.above + screen.y

    def _restore(self) -> None:
        screen = self.screen
        screen.x, screen.y = screen.saved_x, max(0, screen.saved_row - screen.above)
        self._restrict()

    # Sequences

    def _escape(self, body: str) -> None:
        match body:
            case "7":
                self._save()
            case "8":
                self._restore()
            case "D":
                self._index()
            case "E":
                self.screen.x = 0
                self._index()
            case "M":
                self._reverse_index()
            case "H":
                self._own_tabs().add(self.screen.x)
            case "c":
                self._reset()
            case "=" | ">":
                self.modes[66] = body == "="
            case "#8":
                self._move_to(0, 0)
                self.screen.lowest = self.rows - 1
            case "Z":
                self._query("CSI", "c")
            case _:  # charsets, which move nothing
                pass

    def _sequence(self, prefix: str, params: str, between: str, final: str) -> None:
        body = prefix + params + between + final
        if body[-1] in "nc" or between + final == "$p" or (final == "q" and prefix == ">") or final == "t":
            self._query("CSI", body)
        if between == "!" and final == "p" and not prefix:
            self._soft_reset()
        elif between:
            return
        elif prefix == "?" and final in "hl":
            for number in _numbers(params):
                self._set_private(number, final == "h")
        elif prefix in ("<", "=", ">") and final in "um":
            self.other_keys = True
        elif not prefix:
            self._plain(final, _numbers(params))

    def _plain(self, final: str, numbers: list[int]) -> None:
        first = numbers[0]
        count, screen = first or 1, self.screen
        second = numbers[1] if len(numbers) > 1 else 0
        match final:
            case "A":
                self._up(count)
            case "B":
                self._down(count)
            case "C" | "a":
                self._move_by(count, 0)
            case "D":
                self._move_by(-count, 0)
            case "E":
                self._down(count)
                screen.x = 0
            case "F":
                self._up(count)
                screen.x = 0
            case "G" | "`":
                self._move_to(count - 1, screen.y)
            case "H" | "f":
                self._move_to((second or 1) - 1, count - 1)
            case "d":
                self._move_to(screen.x, count - 1)
            case "e":
                self._move_by(0, count)
            case "I":
                for _ in range(min(count, self.columns) if screen.x < self.columns else 0):
                    screen.x = self._next_tab(screen.x)
            case "Z":
                for _ in range(min(count, self.columns) if screen.x < self.columns else 0):
                    screen.x = self._previous_tab(screen.x)
            case "b" if self._last:
                self._print(self._last * min(count, self.columns * self.rows))
            case "J" | "K" | "P" | "X" | "@":
                self._erase(final, first)
            case "L" | "M" | "S" | "T":
                self._shift(final, count)
            case "g":
                if first == 0:
                    self._own_tabs().discard(screen.x)
                elif first == 3:
                    self.tabs = set()
            case "h" | "l":
                self.insert = final == "h" if 4 in numbers else self.insert
                self.newline = final == "h" if 20 in numbers else self.newline
            case "r":
                bottom = second if 0 < second <= self.rows else self.rows
                if bottom > count:
                    screen.top, screen.bottom = count - 1, bottom - 1
                    self._move_to(0, 0)
            case "s":
                self._save()
            case "u":
                self._restore()
            case "t" if first == 22:
                self.titles = min(self.titles + 1, MAX_TITLES)
            case "t" if first == 23:
                self.titles = max(0, self.titles - 1)
            case _:
                pass

    def _erase(self, final: str, how: int) -> None:
        screen = self.screen
        if final in "JK":
            x = screen.x
            self._restrict()
            screen.x = x  # before a wrap, the last column is not erased
        else:
            self._restrict()
        if final == "J" and how == 2:
            screen.lowest = -1
        elif final == "J" and how == 0:
            screen.lowest = min(screen.lowest, screen.y if screen.x else screen.y - 1)

    def _shift(self, final: str, count: int) -> None:
        screen = self.screen
        if final in "LM":
            self._restrict()
            if not screen.top <= screen.y <= screen.bottom:
                return
            screen.x = 0
        grows = final in "LT" and screen.lowest >= (screen.y if final == "L" else screen.top)
        if grows and screen.lowest <= screen.bottom:
            screen.lowest = min(screen.bottom, screen.lowest + count)

    # Modes

    def _set_private(self, number: int, on: bool) -> None:
        if number in ALTERNATE:
            self._switch(number, on)
        elif number == 1048:
            self._save() if on else self._restore()
        elif number == 6:
            self.modes[6] = on
            self._move_to(0, 0)
        elif number in MOUSE:
            self.modes.update(dict.fromkeys(MOUSE, False))
            self.modes[number] = on
        elif number in (1006, 1016):
            self.modes.update({1006: False, 1016: False, number: on})
        else:
            self.modes[number] = on

    def _switch(self, number: int, on: bool) -> None:
        if on and number == 1049:
            self._save()
        if on and not self.in_alternate:
            self.alternate.x, self.alternate.y, self.in_alternate = self.normal.x, self.normal.y, True
        elif not on and self.in_alternate:
            self.normal.x, self.normal.y, self.in_alternate = self.alternate.x, self.alternate.y, False
            kept = self.alternate.saved_x, self.alternate.saved_row
            self.alternate = Screen(saved_x=kept[0], saved_row=kept[1], bottom=self.rows - 1)
        if not on and number == 1049:
            self._restore()

    def _soft_reset(self) -> None:
        screen = self.screen
        screen.top, screen.bottom = 0, self.rows - 1
        screen.saved_x, screen.saved_row = 0, screen.above
        self.insert = False
        for mode in (1, 6, 45, 66, 1004, 2004, 2026):
            self.modes[mode] = False
        self.modes[7] = self.modes[25] = True

    def _reset(self) -> None:
        self.normal, self.alternate = Screen(bottom=self.rows - 1), Screen(bottom=self.rows - 1)
        self.in_alternate = self.insert = self.newline = self.other_keys = False
        self.modes, self.colours, self.titles, self.tabs = {}, {}, 0, None

    # Colours

    def _system_command(self, content: str, *, bell: bool) -> None:
        number, _, rest = content.partition(";")
        if number == "4":
            self._palette(rest, bell=bell)
        elif number in ("10", "11", "12"):
            for offset, value in enumerate(rest.split(";")):
                if (name := str(int(number) + offset)) in ("10", "11", "12"):
                    self._colour(name, value, bell=bell)
        elif number == "104" and not rest:
            self.colours = {name: value for name, value in self.colours.items() if not name.startswith("4;")}
        elif number == "104":
            for index in rest.split(";"):
                self.colours.pop(f"4;{index}", None)
        elif number in ("110", "111", "112"):
            self.colours.pop(number[1:], None)

    def _palette(self, rest: str, *, bell: bool) -> None:
        parts = rest.split(";")
        for index, value in zip(parts[::2], parts[1::2], strict=False):
            if re.fullmatch("[0-9]{1,3}", index) and int(index) < 256:
                self._colour(f"4;{int(index)}", value, bell=bell)

    def _colour(self, name: str, value: str, *, bell: bool) -> None:
        if value == "?":
            self._query("OSC", name, bell=bell)
        elif len(value) <= 64:
            self.colours[name] = value


def _numbers(params: str) -> list[int]:
    """The parameters of a sequence; a missing one is 0, as are sub-parameters."""
    parts = [part.split(":")[0] for part in params.split(";")[:32]]
    return [min(int(part), 2**31 - 1) if part and len(part) < 11 else 0 for part in parts]
