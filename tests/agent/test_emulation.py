"""The agent's view of a terminal, compared with the emulator that draws the terminal on the page."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from agent.conftest import TESTS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onsembl.agent import terminal as agent_terminal
from onsembl.agent.answers import answer
from onsembl.agent.emulation import Emulation
from onsembl.agent.link.outbox import Outbox
from onsembl.agent.terminal import AgentTerminal
from onsembl.cli.server.dashboard_build import install_for_checks
from onsembl.cli.server.node import node_environment

DASHBOARD = TESTS.parent / "dashboard"
COLUMNS, ROWS = 20, 6
Xterm = Callable[[bytes], dict]


@pytest.fixture(scope="module")
def xterm() -> Iterator[Xterm]:
    """Shows output in xterm.js; returns what it shows then, its modes and its answers."""
    install_for_checks(DASHBOARD, print)
    driver = str(TESTS / "support" / "xterm.mjs")
    with subprocess.Popen(
        ["node", driver], cwd=DASHBOARD, env=node_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as node:
        assert node.stdin is not None and node.stdout is not None

        def show(data: bytes) -> dict:
            request = {"columns": COLUMNS, "rows": ROWS, "data": base64.b64encode(data).decode()}
            node.stdin.write(json.dumps(request).encode() + b"\n")
            node.stdin.flush()
            return json.loads(node.stdout.readline())

        yield show
        node.stdin.close()


numbers = st.sampled_from(["", "0", "1", "2", "3", "5", "9", "24", "100"])
MODES = ["1", "6", "7", "25", "45", "47", "66", "1000", "1002", "1003", "1004", "1006", "1047", "1048", "1049", "2004"]
texts = st.sampled_from(["a", "hello", "wide 漢字 x", "é", "x" * 19, "x" * 33])
controls = st.sampled_from(["\r\n", "\n", "\r", "\b", "\t", "\v", "\x0e", "\x0f", "\x84", "\x85"])
moves = st.tuples(numbers, numbers, st.sampled_from("ABCDEFGHIJKLMPSTXZ@`adefgr")).map(
    lambda parts: f"\x1b[{parts[0]};{parts[1]}{parts[2]}" if parts[2] in "Hfr" else f"\x1b[{parts[0]}{parts[2]}"
)
modes = st.tuples(st.sampled_from(MODES), st.sampled_from("hl")).map(lambda mode: f"\x1b[?{mode[0]}{mode[1]}")
escapes = st.sampled_from(["7", "8", "D", "E", "M", "H", "=", ">", "#8", "c", "(0", "(B", ")0", "n", "o"]).map(
    lambda final: f"\x1b{final}"
)
others = st.sampled_from(
    [
        *(
            "\x1b[!p",
            "\x1b[4h",
            "\x1b[4l",
            "\x1b[s",
            "\x1b[u",
            "\x1b]0;title\x07",
            "\x1bPjunk\x1b\\",
            "\x1b_junk\x1b\\",
        ),
        *(
            "\x1b[12\x1b[3C",
            "\x1b[1\x18",
            "\x1b[2\n3C",
            "\x9b3C",
            "\x1b[38;5;9m",
            "\x1b[1;4;7m",
            "\x1b]8;;http://x\x07",
        ),
    ]
)
asked = ["5n", "c", ">c", "4$p", "?6$p", "?7$p", "?1$p", "?1002$p", "?1006$p", "?1049$p", "?2004$p", "?2$p", "?1048$p"]
queries = st.sampled_from([*(f"\x1b[{query}" for query in asked), "\x1bP$qr\x1b\\", "\x1bP$qx\x1b\\"])
parts = st.lists(texts | controls | moves | modes | escapes | others, max_size=14)


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(texts | controls | moves | modes | escapes | others | queries, max_size=20), size=st.integers(1, 40)
)
def test_the_cursor_the_modes_and_the_answers_are_those_of_xterm(xterm, parts, size):
    """Output may be cut anywhere; the lowest row that is not empty is never above the one on the screen."""
    output = "".join(parts).encode()
    emulation, answers = Emulation(COLUMNS, ROWS), []
    emulation.on_query = lambda query: answers.append(answer(query, emulation))
    for at in range(0, len(output), size):
        emulation.feed(output[at : at + size])
    shown, screen = xterm(output), emulation.screen
    screen_name = "alternate" if emulation.in_alternate else "normal"
    assert (screen.x, screen.y, screen_name) == (shown["x"], shown["y"], shown["type"])
    assert "".join(answers) == shown["replies"]
    lowest = max((y for y, line in enumerate(shown["lines"][shown["above"] :]) if line.strip()), default=-1)
    assert screen.lowest >= lowest


@pytest.mark.parametrize(
    ("output", "answered"),
    [
        (b"ab\x1b[6n", "\x1b[1;3R"),
        (b"\r\n\r\n\x1b[?6n", "\x1b[?3;1R"),
        (b"x" * COLUMNS + b"\x1b[6n", f"\x1b[1;{COLUMNS}R"),
        (b"\x1b[2;4r\x1b[?6h\x1b[2;3H\x1b[6n", "\x1b[2;3R"),
        (b"\x1b[99;99H\x1b[6n", f"\x1b[{ROWS};{COLUMNS}R"),
        (b"\x1b]11;?\x07", "\x1b]11;rgb:0b0b/0e0e/1313\x07"),
        (b"\x1b]10;?\x1b\\", "\x1b]10;rgb:d5d5/dada/e3e3\x1b\\"),
        (b"\x1b]11;#fff\x07\x1b]11;?\x07", "\x1b]11;rgb:ffff/ffff/ffff\x07"),
        (b"\x1b]11;#fff\x07\x1b]111\x07\x1b]11;?\x07", "\x1b]11;rgb:0b0b/0e0e/1313\x07"),
        (b"\x1b]4;1;?;232;?\x07", "\x1b]4;1;rgb:ffff/7b7b/8585\x07\x1b]4;232;rgb:0808/0808/0808\x07"),
        (b"\x1b[>0q", "\x1bP>|xterm.js(6.0.0)\x1b\\"),
        (b"\x1b[=c", "\x1bP!|00000000\x1b\\"),
        (b"\x1b[18t", f"\x1b[8;{ROWS};{COLUMNS}t"),
        (b"\x1bP+q544e\x1b\\", "\x1bP0+r\x1b\\"),
        (b"\x1b[?u\x1b[21t\x1b]52;c;?\x07\x05", ""),
        (b"\x1b[1c\x1b[?9999999n\x1b[?99999999$p", ""),
    ],
)
def test_other_queries_are_answered_as_terminals_do(output, answered):
    """Programs ask for these, too; the keyboard protocol of kitty, the title and the clipboard get no answer."""
    for size in (len(output), 1):
        emulation, answers = Emulation(COLUMNS, ROWS), []
        emulation.on_query = lambda query: answers.append(answer(query, emulation))  # noqa: B023
        for at in range(0, len(output), size):
            emulation.feed(output[at : at + size])
        assert "".join(answers) == answered


def test_the_palette_is_that_of_the_page():
    """A program that asks for the colours gets those of the page's dark theme."""
    theme = (DASHBOARD / "src" / "lib" / "terminal" / "themes.ts").read_text().split("export const LIGHT")[0]
    from onsembl.agent.answers import BACKGROUND, CURSOR, FOREGROUND, PALETTE

    names = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"]
    names += [f"bright{name.capitalize()}" for name in names]
    given = zip(["background", "foreground", "cursor", *names], [BACKGROUND, FOREGROUND, CURSOR, *PALETTE], strict=True)
    for name, colour in given:
        assert f'{name}: "{colour}"' in theme


class Shown:
    """An agent's terminal whose output is collected."""

    def __init__(self, folder: Path) -> None:
        self._outbox = Outbox(folder / uuid4().hex, uuid4())
        self.terminal = AgentTerminal(COLUMNS, ROWS, self._outbox)

    def output(self) -> bytes:
        data = b""
        while (frame := self._outbox.next_frame(65536)) is not None:
            data += frame[1]
        self._outbox.close()
        return data


USUAL_MODES = {
    "applicationCursorKeysMode": False,
    "applicationKeypadMode": False,
    "bracketedPasteMode": False,
    "insertMode": False,
    "mouseTrackingMode": "none",
    "originMode": False,
    "reverseWraparoundMode": False,
    "sendFocusMode": False,
    "synchronizedOutputMode": False,
    "wraparoundMode": True,
}
NEXT = b"hello\r\n" + b"".join(b"%d\r\n" % number for number in range(1, 41)) + b"y" * (COLUMNS + 5) + b"\r\n"
LINES = ["hello", *map(str, range(1, 41)), "y" * COLUMNS, "y" * 5]


@example(parts=["\x1b(0"], flood=False)
@example(parts=["\x1b[?1049h\x1b[2;4r\x1b[?25l\x1b[?1003h"], flood=False)
@example(parts=["one\r\ntwo\r\n", "\x1b[?1049h\x1b[2J\x1b[5;10Hfull screen"], flood=False)
@example(parts=["one\r\ntwo", "\x1b[?47h\x1b[3;3Hfull screen"], flood=False)
@example(parts=["a\r\nb\r\nc\r\n\x1b[H"], flood=False)
@example(parts=["no end"], flood=False)
@example(parts=["\x1b[20h\x1b[4h\x1b[?7l\x1b[3g\x1b]0;unfinished title"], flood=False)
@example(parts=["\x1b[1;31mred\x1b[?2026h"], flood=True)
@example(parts=["a", "\n"], flood=True)
@settings(max_examples=60, deadline=None)
@given(parts=parts, flood=st.booleans())
def test_a_terminal_is_sane_for_the_next_command(xterm, tmp_path_factory, parts, flood):
    """Whatever a program left behind: the next output begins on a fresh line below it, and is shown as usual."""
    program = "".join(parts).encode()
    shown = Shown(tmp_path_factory.getbasetemp())
    with pytest.MonkeyPatch.context() as patch:
        if flood:  # then the agent does not follow all output
            patch.setattr(agent_terminal, "PENDING_BYTES", len(program) // 2)
        for part in parts:
            shown.terminal.write_asking(part.encode())
    shown.terminal.make_sane()
    shown.terminal.write(NEXT)
    after = xterm(shown.output())
    assert [line.rstrip() for line in after["lines"] if line][-len(LINES) :] == LINES
    assert (after["type"], after["x"], after["styled"]) == ("normal", 0, False)
    assert after["modes"] == USUAL_MODES
    before = xterm(program + b"\x18\x1b7\x1b[?1049l")["lines"]
    while before and not before[-1].strip():
        before.pop()
    assert after["lines"][: len(before)] == before


@pytest.mark.parametrize("output", ["a\r\nb\r\nc", "a\r\nb\r\nc\r\n\x1b[H", "\x1b[?1049hx\x1b[?1049la\r\nb\r\nc\x1b[A"])
def test_no_lines_are_left_out(xterm, tmp_path, output):
    """The next output begins just below, wherever the cursor was."""
    shown = Shown(tmp_path)
    shown.terminal.write_asking(output.encode())
    shown.terminal.make_sane()
    shown.terminal.write(b"hello")
    assert xterm(shown.output())["lines"][:4] == ["a", "b", "c", "hello"]


@pytest.mark.parametrize(("output", "added"), [(b"one\r\n", b""), (b"one", b"\r\n"), (b"one\r", b"\r\n")])
def test_plain_output_gets_no_sequence(tmp_path, output, added):
    """At most its last line is ended."""
    shown = Shown(tmp_path)
    shown.terminal.write(output)
    shown.terminal.make_sane()
    assert shown.output() == output + added
