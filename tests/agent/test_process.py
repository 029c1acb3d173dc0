"""Programs in pseudo-terminals and on pipes: every byte, every size, the right end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import sys
from dataclasses import replace
from uuid import uuid4

import psutil
import pytest

from onsembl.agent.drivers.shell import ShellAdapter
from onsembl.agent.process.program import HEEDED, Process, Surroundings
from onsembl.agent.process.terminal import AgentTerminal
from onsembl.protocol.limits import NO_LIMITS
from onsembl.protocol.stream import Outbox


class Shown:
    """What a terminal was given, taken as it comes."""

    def __init__(self, terminal: AgentTerminal) -> None:
        self.data = bytearray()
        self._terminal = terminal
        self._more = asyncio.Event()
        terminal.on_output = self._take

    def _take(self) -> None:
        while (frame := self._terminal.outbox.next_frame(65536)) is not None:
            self.data += frame[1]
        self._terminal.acknowledged(self._terminal.outbox.sent)
        self._more.set()

    async def until(self, wanted: bytes) -> None:
        async with asyncio.timeout(30):
            while wanted not in self.data:
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def shown(surroundings) -> Shown:
    return Shown(surroundings.terminal)


def start(surroundings: Surroundings, text: str) -> Process:
    return ShellAdapter().start(str(uuid4()), text, surroundings, NO_LIMITS).process


async def end(process: Process) -> int:
    async with asyncio.timeout(30):
        status = await process.exited
        await process.drain()
    process.close()
    return status


@pytest.mark.parametrize(("text", "status"), [("exit 0", 0), ("exit 37", 37), ("kill -9 $$", -9), ("nonsense", 127)])
async def test_the_status_is_the_programs(surroundings, shown, text, status):
    """Its exit code, or minus the signal that ended it."""
    assert await end(start(surroundings, text)) == status


async def test_the_terminal_is_its_own(surroundings, shown):
    """A session and a foreground group of its own, on a terminal that it controls."""
    process = start(surroundings, "tty; ps -o pid=,sid=,pgid=,tpgid= -p $$; echo $$; [ -t 0 ] && [ -t 1 ] && [ -t 2 ]")
    assert await end(process) == 0
    tty, ids, pid = bytes(shown.data).split(b"\r\n")[:3]
    assert tty.startswith(b"/dev/")
    assert set(ids.split()) == {pid}


async def test_the_size_is_the_terminals_and_follows_it(surroundings, shown):
    """`stty size` tells it, and SIGWINCH its changes."""
    text = "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.05; done"
    process = start(surroundings, text)
    await shown.until(b"24 80\r\n")
    surroundings.terminal.columns, surroundings.terminal.rows = 132, 43
    process.resize()
    await shown.until(b"43 132\r\n")
    assert await end(process) == 0


async def test_a_screen_is_drawn_anew_each_time_that_it_is_wanted(surroundings, shown, tmp_path):
    """However soon after the last time: not more often than the program can follow, but never not at all."""
    process = start(
        surroundings, "trap 'stty size' WINCH; echo ready; until [[ -e over ]]; do read -t 0.02 x; done; true"
    )
    await shown.until(b"ready")
    process.redraw()
    await shown.until(b"23 80\r\n24 80\r\n")
    for _ in range(3):
        process.redraw()
    await shown.until(b"23 80\r\n24 80\r\n23 80\r\n24 80\r\n")
    # An interrupt might end a program of the trap alone, and bash loses a key that comes as its `read -t` runs out.
    (tmp_path / "over").touch()
    assert await end(process) == 0


async def test_no_byte_is_lost_or_changed(surroundings, shown, tmp_path):
    """5 MB of random bytes through a raw terminal, the last of them written just before the end."""
    data = random.Random(1).randbytes(5_000_000)
    (tmp_path / "data").write_bytes(data)
    assert await end(start(surroundings, "stty raw -echo; cat data")) == 0
    assert len(shown.data) == len(data)
    assert hashlib.sha256(shown.data).digest() == hashlib.sha256(data).digest()


async def test_characters_that_are_cut_in_two_arrive_whole(surroundings, shown):
    """Bytes are bytes: nothing decodes them on the way."""
    text = r"printf '\xe6\xbc'; sleep 0.1; printf '\xa2\xe5\xad\x97\n'"
    assert await end(start(surroundings, text)) == 0
    assert bytes(shown.data) == "漢字\r\n".encode()


async def test_a_program_waits_while_the_terminal_is_full(surroundings, tmp_path):
    """Its output is not read on, and goes on when there is room; at its end the rest is taken in any case."""
    terminal = AgentTerminal(80, 24, Outbox(100_000))
    surroundings = replace(surroundings, terminal=terminal)
    process = start(surroundings, "stty raw; head -c 1000000 /dev/zero; touch done; echo end")
    async with asyncio.timeout(30):
        while not terminal.outbox.full:
            await asyncio.sleep(0.01)
        writer = psutil.Process(process.tree.alive()[-1].pid)
        while writer.status() == psutil.STATUS_RUNNING:
            await asyncio.sleep(0.01)
    assert not (tmp_path / "done").exists()
    assert terminal.outbox.end < 300_000
    taken = bytearray()
    async with asyncio.timeout(30):
        while not process.exited.done():
            while (frame := terminal.outbox.next_frame(50_000)) is not None:
                taken += frame[1]
                terminal.acknowledged(terminal.outbox.sent)
            await asyncio.sleep(0)
    await end(process)
    while (frame := terminal.outbox.next_frame(50_000)) is not None:
        taken += frame[1]
    assert taken == bytes(1_000_000) + b"end\n"


async def test_the_last_bytes_do_not_wait_for_room(surroundings):
    """With its processes gone, what the kernel still holds is taken into a full terminal."""
    terminal = AgentTerminal(80, 24, Outbox(1))
    process = start(replace(surroundings, terminal=terminal), "printf abc; sleep 0.05; printf def")
    assert await end(process) == 0
    assert terminal.outbox.next_frame(100) == (0, b"abcdef")


async def test_a_stranger_who_holds_the_terminal_does_not_hold_the_end(surroundings, shown, monkeypatch):
    """The output is over some time after the processes are gone, whoever else could still write."""
    monkeypatch.setattr("onsembl.agent.process.program.LAST_BYTES_SECONDS", 0.05)
    process = start(surroundings, "tty; read go")
    await shown.until(b"\r\n")
    stranger = os.open(bytes(shown.data).split(b"\r\n")[0], os.O_RDWR | os.O_NOCTTY)
    process.press(b"\n")
    assert await end(process) == 0
    os.close(stranger)


async def test_keys_are_pressed(surroundings, shown):
    """Ctrl-C is the terminal's: it interrupts the foreground program."""
    process = start(surroundings, "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done")
    await shown.until(b"ready")
    process.press(b"\x03")
    assert await end(process) == 5
    assert b"caught" in shown.data
    process.press(b"\x03")  # and is harmless afterwards


async def test_a_program_heeds_the_signals_that_its_agent_was_told_to_ignore(surroundings, shown):
    """An agent that a script or `nohup` has started behind itself."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in HEEDED}
    try:
        process = start(surroundings, "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done")
        await shown.until(b"ready")
        process.press(b"\x03")
        assert await end(process) == 5
        output = bytearray()
        piped = Process.on_pipes(
            ["grep", "^Sig\\(Ign\\|Cgt\\)", "/proc/self/status"], "piped", surroundings, "", output.extend
        )
        assert await end(piped) == 0
        ignored = int(output.split()[1], 16)
        assert not any(ignored & 1 << number - 1 for number in HEEDED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("mode", ["icanon", "-icanon"])
async def test_a_program_that_reads_nothing_is_interrupted_all_the_same(surroundings, shown, mode):
    """However much was typed before: into the terminal alone, or more than that takes."""
    for typed in (b"typed\n" * 1000, b"typed\n" * 10_000):
        process = start(surroundings, f"stty {mode} -echo; echo ready; exec sleep 1000")
        await shown.until(b"ready")
        shown.data.clear()
        assert process.type(typed) is None
        process.press(b"\x03")
        assert await end(process) == -2


async def test_a_raw_terminal_keeps_its_keys_in_order(surroundings, shown):
    """The program takes the interrupt itself, where it comes among what was typed."""
    process = start(surroundings, "stty raw -echo; echo ready; head -c 7 | od -An -c")
    await shown.until(b"ready")
    assert process.type(b"abc") is None
    process.press(b"\x03")
    assert process.type(b"def") is None
    assert await end(process) == 0
    assert shown.data.split()[-7:] == [b"a", b"b", b"c", b"003", b"d", b"e", b"f"]


async def test_input_on_pipes_has_an_end(surroundings, shown):
    """The text is all there is to read; output goes to the adapter, errors to the terminal."""
    taken = bytearray()
    argv = [sys.executable, "-c", "import sys; t = sys.stdin.read(); print(len(t)); print('bad', file=sys.stderr)"]
    process = Process.on_pipes(argv, str(uuid4()), surroundings, "ä" * 500_000, taken.extend)
    assert await end(process) == 0
    assert (taken, shown.data) == (b"500000\n", b"bad\r\n")


async def test_input_that_nobody_reads_is_let_go(surroundings, shown):
    """A program that ends, or is closed, with its input unread leaves nothing open."""
    before = psutil.Process().num_fds()
    ended = Process.on_pipes(["true"], str(uuid4()), surroundings, "x" * 1_000_000, lambda _: None)
    assert await end(ended) == 0
    stuck = Process.on_pipes(["sleep", "1000"], str(uuid4()), surroundings, "x" * 1_000_000, lambda _: None)
    psutil.Process(stuck.tree.alive()[0].pid).kill()
    assert await end(stuck) == -9
    assert psutil.Process().num_fds() == before


async def test_what_cannot_be_started_says_so(surroundings):
    """And leaves nothing open."""
    before = psutil.Process().num_fds()
    with pytest.raises(FileNotFoundError):
        Process.in_terminal(["/nonexistent"], str(uuid4()), surroundings)
    with pytest.raises(FileNotFoundError):
        Process.on_pipes(["/nonexistent"], str(uuid4()), surroundings, "", lambda _: None)
    assert psutil.Process().num_fds() == before
