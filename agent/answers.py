"""What a terminal answers to a program's queries: where the cursor is, what it can do, which modes and colours are set.

The agent answers, exactly once and whether anybody watches or not; pages answer nothing. The answers are those of
xterm.js, which draws the terminal on the page, and those of xterm where a program would otherwise wait. A terminal says
nothing about what it does not have, such as the keyboard protocol of kitty: so programs do not use it.
"""

from __future__ import annotations

import re

from onsembl.agent.emulation import ALTERNATE, Emulation, Query

ESC = "\x1b"
CSI, DCS, OSC, ST, BEL = f"{ESC}[", f"{ESC}P", f"{ESC}]", f"{ESC}\\", "\x07"
NAME = "xterm.js(6.0.0)"
"""The emulator on the page, in its answer to XTVERSION."""
FOREGROUND, BACKGROUND, CURSOR = "#d5dae3", "#0b0e13", "#d5dae3"
"""The colours of the page's dark theme (dashboard/src/lib/terminal/themes.ts)."""
PALETTE = (
    *("#3b4352", "#ff7b85", "#7fd18b", "#e5c07b", "#74b0ff", "#d59bf6", "#5fd0d4", "#c3c9d4"),
    *("#7d8798", "#ff9aa2", "#a3e0ab", "#f3d79b", "#9cc7ff", "#e4bcfa", "#90e1e4", "#f2f4f8"),
)
_LEVELS = (0, 95, 135, 175, 215, 255)
_MODES = (1, 6, 7, 9, 12, 25, 45, 66, 1000, 1002, 1003, 1004, 1006, 1016, 2004, 2026)
_FIXED = {8: 3, 67: 4, 1005: 4, 1015: 4, 1048: 1}
"""The modes that a program cannot change: 1 and 3 for set, 4 for reset."""
_HEX = re.compile("#([0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{9}|[0-9a-fA-F]{12})")
_RGB = re.compile("rgb:([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})")


def answer(query: Query, terminal: Emulation) -> str:
    """The answer; empty for what a terminal does not answer."""
    match query.kind:
        case "CSI":
            return _report(query.body, terminal)
        case "OSC":
            return f"{OSC}{query.body};{_colour(query.body, terminal)}{BEL if query.bell else ST}"
        case _:
            return _setting(query.body, terminal)


def _report(body: str, terminal: Emulation) -> str:
    match body:
        case "5n":
            return f"{CSI}0n"
        case "6n" | "?6n":
            return f"{CSI}{body[:-2]}{_row(terminal)};{min(terminal.screen.x, terminal.columns - 1) + 1}R"
        case "?15n":
            return f"{CSI}?13n"  # no printer
        case "?25n":
            return f"{CSI}?21n"  # function keys cannot be defined
        case "?26n":
            return f"{CSI}?27;1;0;0n"  # a North American keyboard
        case "?53n" | "?55n":
            return f"{CSI}?50n"  # no locator
        case "c" | "0c":
            return f"{CSI}?1;2c"
        case ">c" | ">0c":
            return f"{CSI}>0;276;0c"
        case "=c" | "=0c":
            return f"{DCS}!|00000000{ST}"
        case ">q" | ">0q":
            return f"{DCS}>|{NAME}{ST}"
        case "18t":
            return f"{CSI}8;{terminal.rows};{terminal.columns}t"
        case _ if body.endswith("$p"):
            return _mode(body.removesuffix("$p"), terminal)
        case _:
            return ""


def _row(terminal: Emulation) -> int:
    screen = terminal.screen
    return screen.y - (screen.top if terminal.origin else 0) + 1


def _mode(body: str, terminal: Emulation) -> str:
    """The answer to DECRQM: 1 for set, 2 for reset, 3 and 4 for permanently so, 0 for unknown."""
    private = body.startswith("?")
    number = body.lstrip("?")
    if not number.isdigit() or len(number) > 5:
        return ""
    mode = int(number)
    if not private:
        state = {2: 4, 4: 1 if terminal.insert else 2, 12: 3, 20: 1 if terminal.newline else 2}.get(mode, 0)
    elif mode in ALTERNATE:
        state = 1 if terminal.in_alternate else 2
    elif mode in _MODES:
        state = 1 if terminal.mode(mode) else 2
    else:
        state = _FIXED.get(mode, 0)
    return f"{CSI}{'?' if private else ''}{mode};{state}$y"


def _setting(body: str, terminal: Emulation) -> str:
    """The answers to DECRQSS, and to XTGETTCAP, of which every capability is unknown: programs have terminfo."""
    if body.startswith("+q"):
        return f"{DCS}0+r{ST}"
    screen = terminal.screen
    known = {"r": f"{screen.top + 1};{screen.bottom + 1}r", "m": "0m", " q": "2 q", '"q': '0"q', '"p': '61;1"p'}
    value = known.get(body.removeprefix("$q"))
    return f"{DCS}1$r{value}{ST}" if value is not None else f"{DCS}0$r{ST}"


def _colour(name: str, terminal: Emulation) -> str:
    """A colour as `rgb:rrrr/gggg/bbbb`: as the program has set it, else as the page's dark theme has it."""
    return _specification(terminal.colours.get(name, "")) or _specification(_usual(name)) or ""


def _usual(name: str) -> str:
    if not name.startswith("4;"):
        return {"10": FOREGROUND, "11": BACKGROUND, "12": CURSOR}[name]
    index = int(name[2:])
    if index < 16:
        return PALETTE[index]
    if index < 232:
        parts = [_LEVELS[(index - 16) // 36], _LEVELS[(index - 16) // 6 % 6], _LEVELS[(index - 16) % 6]]
    else:
        parts = [8 + 10 * (index - 232)] * 3
    return "#" + "".join(f"{part:02x}" for part in parts)


def _specification(value: str) -> str | None:
    """An XParseColor specification with four digits for each part; None when it is no such specification."""
    if match := _RGB.fullmatch(value):
        parts = [round(int(part, 16) * 0xFFFF / (16 ** len(part) - 1)) for part in match.groups()]
    elif match := _HEX.fullmatch(value):
        digits = len(match[1]) // 3
        texts = [match[1][at : at + digits] for at in range(0, 3 * digits, digits)]
        parts = [round(int(part, 16) * 0xFFFF / (16**digits - 1)) for part in texts]
    else:
        return None
    return "rgb:" + "/".join(f"{part:04x}" for part in parts)
