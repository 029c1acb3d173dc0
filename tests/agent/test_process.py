"""Programs in pseudo-terminals and on pipes: their bytes, sizes, keys and exit status."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from agent.conftest import until

from onsembl.agent.drivers.shell import ShellDriver
from onsembl.agent.link.outbox import Outbox
from onsembl.agent.process import process as process_module
from onsembl.agent.process.process import RESET_SIGNALS, Process, ProcessContext
from onsembl.agent.terminal import AgentTerminal
from onsembl.protocol.messages import Offer


@pytest.fixture
def small_outbox(tmp_path: Path) -> Iterator[Callable[[int], Outbox]]:
    """Opens outboxes of a given capacity, in bytes."""
    opened: list[Outbox] = []

    def open_outbox(capacity: int) -> Outbox:
        opened.append(Outbox(tmp_path / "small", uuid4(), capacity=capacity))
        return opened[-1]

    yield open_outbox
    for outbox in opened:
        outbox.close()


def start(context: ProcessContext, text: str) -> Process:
    return ShellDriver().start(Offer(command_id=uuid4(), text=text), context).process


async def end(process: Process) -> int:
    async with asyncio.timeout(30):
        status = await process.exited
        await process.drain()
    process.close()
    return status


@pytest.mark.parametrize(("text", "status"), [("exit 0", 0), ("exit 37", 37), ("kill -9 $$", -9), ("nonsense", 127)])
async def test_the_exit_status_is_the_programs(context, shown, text, status):
    """The status is the exit code, or minus the signal that ended the program."""
    assert await end(start(context, text)) == status


async def test_the_terminal_is_its_own(context, shown):
    """The program has a session and a foreground group of its own, on its controlling terminal."""
    process = start(context, "tty; ps -o pid=,sid=,pgid=,tpgid= -p $$; echo $$; [ -t 0 ] && [ -t 1 ] && [ -t 2 ]")
    assert await end(process) == 0
    tty, ids, pid = bytes(shown.data).split(b"\r\n")[:3]
    assert tty.startswith(b"/dev/")
    assert set(ids.split()) == {pid}


async def test_the_size_is_the_terminals_and_follows_it(context, shown):
    """`stty size` shows the size, and SIGWINCH comes with each change."""
    text = "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.05; done"
    process = start(context, text)
    await shown.until(b"24 80\r\n")
    context.terminal.columns, context.terminal.rows = 132, 43
    process.resize()
    await shown.until(b"43 132\r\n")
    assert await end(process) == 0


async def test_a_screen_is_redrawn_after_every_request(context, shown, tmp_path, monkeypatch):
    """Requests that come too soon after a redraw are served later, together."""
    monkeypatch.setattr(process_module, "REDRAW_PATIENCE_SECONDS", 60.0)
    process = start(context, "trap 'stty size' WINCH; echo ready; until [[ -e over ]]; do sleep 0.05; done; true")
    await shown.until(b"ready")
    process.redraw()
    await shown.until(b"23 80\r\n24 80\r\n")
    for _ in range(3):
        process.redraw()
    await shown.until(b"23 80\r\n24 80\r\n23 80\r\n24 80\r\n")
    (tmp_path / "over").touch()  # An interrupt might end a program of the trap alone.
    assert await end(process) == 0


COMPARES_SIZES = """
import os, signal
size = os.get_terminal_size()
def look(*_):
    global size
    before, size = size, os.get_terminal_size()
    if size != before: print(f"drawn with {size.lines} rows")
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
print("ready", flush=True)
while True: look(signal.sigwait([signal.SIGWINCH]))
"""


async def test_a_program_that_comes_late_to_run_redraws(context, shown, tmp_path, monkeypatch):
    """The size differs until the program, which a busy machine lets wait, has compared it."""
    monkeypatch.setattr(process_module, "REDRAW_SECONDS", 0.01)
    monkeypatch.setattr(process_module, "REDRAW_PATIENCE_SECONDS", 60.0)
    (tmp_path / "program.py").write_text(COMPARES_SIZES)
    process = start(context, f"exec {sys.executable} -u program.py")
    await shown.until(b"ready")
    program = psutil.Process(process.tree.alive()[-1].pid)
    program.suspend()
    process.redraw()
    waited_until = asyncio.get_running_loop().time() + 0.1
    await until(lambda: asyncio.get_running_loop().time() > waited_until, "ten times the shortest moment")
    program.resume()
    await shown.until(b"drawn with 23 rows\r\ndrawn with 24 rows\r\n")
    program.kill()
    assert await end(process) == -signal.SIGKILL


async def test_a_program_that_writes_nothing_has_its_row_again(context, shown, tmp_path, monkeypatch):
    """A program that does not draw keeps the size of its terminal."""
    monkeypatch.setattr(process_module, "REDRAW_SECONDS", 0.01)
    monkeypatch.setattr(process_module, "REDRAW_PATIENCE_SECONDS", 0.05)
    process = start(context, "echo ready; until [ -e over ]; do sleep 0.02; done; stty size")
    await shown.until(b"ready")
    resized = asyncio.Event()
    resize = process.resize
    monkeypatch.setattr(process, "resize", lambda: (resize(), resized.set()))
    process.redraw()
    await asyncio.wait_for(resized.wait(), 30)
    (tmp_path / "over").touch()
    assert await end(process) == 0
    assert bytes(shown.data).endswith(b"24 80\r\n")


async def test_no_byte_is_lost_or_changed(context, shown, tmp_path):
    """5 MB of random bytes pass a raw terminal, the last of them written just before the program's end."""
    data = random.Random(1).randbytes(5_000_000)
    (tmp_path / "data").write_bytes(data)
    assert await end(start(context, "stty raw -echo; cat data")) == 0
    assert len(shown.data) == len(data)
    assert hashlib.sha256(shown.data).digest() == hashlib.sha256(data).digest()


async def test_characters_that_are_cut_in_two_arrive_whole(context, shown):
    """Nothing decodes the bytes on their way."""
    text = r"printf '\xe6\xbc'; sleep 0.1; printf '\xa2\xe5\xad\x97\n'"
    assert await end(start(context, text)) == 0
    assert bytes(shown.data) == "漢字\r\n".encode()


async def test_a_program_waits_while_the_terminal_is_full(context, small_outbox, tmp_path):
    """Its output is read again when there is room; at its end the rest is read in any case."""
    terminal = AgentTerminal(80, 24, small_outbox(100_000))
    context = replace(context, terminal=terminal)
    process = start(context, "stty raw; head -c 1000000 /dev/zero; touch done; echo end")
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


async def test_the_last_bytes_do_not_wait_for_room(context, small_outbox):
    """When the processes are gone, the output that is left in the kernel is read even into a full terminal."""
    terminal = AgentTerminal(80, 24, small_outbox(1))
    process = start(replace(context, terminal=terminal), "printf abc; sleep 0.05; printf def")
    assert await end(process) == 0
    assert terminal.outbox.next_frame(100) == (0, b"abcdef")


async def test_an_unrelated_process_on_the_terminal_does_not_delay_the_end_for_long(context, shown, monkeypatch):
    """Reading stops some time after the processes are gone, though another process could still write."""
    monkeypatch.setattr("onsembl.agent.process.process.LAST_BYTES_SECONDS", 0.05)
    process = start(context, "tty; read go")
    await shown.until(b"\r\n")
    stranger = os.open(bytes(shown.data).split(b"\r\n")[0], os.O_RDWR | os.O_NOCTTY)
    process.press_interrupt(b"\n")
    assert await end(process) == 0
    os.close(stranger)


async def test_ctrl_c_interrupts_the_program(context, shown):
    """The terminal sends SIGINT to its foreground program."""
    process = start(context, "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done")
    await shown.until(b"ready")
    process.press_interrupt(b"\x03")
    assert await end(process) == 5
    assert b"caught" in shown.data
    process.press_interrupt(b"\x03")  # and is harmless afterwards


async def test_signals_that_the_agent_ignores_reach_its_programs(context, shown):
    """A script or `nohup` that starts the agent in the background makes it ignore signals."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in RESET_SIGNALS}
    try:
        process = start(context, "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done")
        await shown.until(b"ready")
        process.press_interrupt(b"\x03")
        assert await end(process) == 5
        output = bytearray()
        piped = Process.on_pipes(
            ["grep", "^Sig\\(Ign\\|Cgt\\)", "/proc/self/status"], "piped", context, output.extend, output.extend
        )
        assert await end(piped) == 0
        ignored = int(output.split()[1], 16)
        assert not any(ignored & 1 << number - 1 for number in RESET_SIGNALS)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("mode", ["icanon", "-icanon"])
async def test_a_program_that_reads_nothing_is_interrupted(context, shown, mode):
    """The key reaches it behind a full terminal, and behind keys that wait for the terminal."""
    for typed in (b"typed\n" * 1000, b"typed\n" * 10_000):
        process = start(context, f"stty {mode} -echo; echo ready; exec sleep 1000")
        await shown.until(b"ready")
        shown.data.clear()
        assert process.type(typed) is None
        process.press_interrupt(b"\x03")
        assert await end(process) == -2


async def test_a_raw_terminal_keeps_its_keys_in_order(context, shown):
    """The program reads the interrupt key among the other keys."""
    process = start(context, "stty raw -echo; echo ready; head -c 7 | od -An -c")
    await shown.until(b"ready")
    assert process.type(b"abc") is None
    process.press_interrupt(b"\x03")
    assert process.type(b"def") is None
    assert await end(process) == 0
    assert shown.data.split()[-7:] == [b"a", b"b", b"c", b"003", b"d", b"e", b"f"]


async def test_input_on_a_pipe_is_written_as_it_is_read(context):
    """The program reads the text and then end of file; its output and its errors go to the driver."""
    taken, errors = bytearray(), bytearray()
    argv = [sys.executable, "-c", "import sys; t = sys.stdin.read(); print(len(t)); print('bad', file=sys.stderr)"]
    process = Process.on_pipes(argv, str(uuid4()), context, taken.extend, errors.extend)
    process.write_input("ä".encode() * 250_000)
    process.write_input("ä".encode() * 250_000)
    process.end_input()
    process.write_input(b"too late")
    assert await end(process) == 0
    assert (taken, errors) == (b"500000\n", b"bad\n")


async def test_unread_input_leaves_no_descriptor_open(context, shown):
    """Neither a program that ends with unread input nor one that is killed with it leaves a descriptor open."""
    before = psutil.Process().num_fds()
    ended = Process.on_pipes(["true"], str(uuid4()), context, lambda _: None, lambda _: None)
    ended.write_input(b"x" * 1_000_000)
    assert await end(ended) == 0
    stuck = Process.on_pipes(["sleep", "1000"], str(uuid4()), context, lambda _: None, lambda _: None)
    stuck.write_input(b"x" * 1_000_000)
    psutil.Process(stuck.tree.alive()[0].pid).kill()
    assert await end(stuck) == -9
    assert psutil.Process().num_fds() == before


async def test_a_program_that_cannot_be_started_raises(context):
    """It leaves no descriptor open."""
    before = psutil.Process().num_fds()
    with pytest.raises(FileNotFoundError):
        Process.in_terminal(["/nonexistent"], str(uuid4()), context)
    with pytest.raises(FileNotFoundError):
        Process.on_pipes(["/nonexistent"], str(uuid4()), context, lambda _: None, lambda _: None)
    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize(
    "redirected", ["exec </dev/null >log 2>&1", "exec </dev/null >log 2>&1; exec 3>&-", "exec 0>&- 1>&- 2>&-"]
)
async def test_a_program_that_lets_go_of_its_terminal_runs_on(context, shown, tmp_path, redirected):
    """The end of a program is the end of its process; the terminal can be opened again meanwhile."""
    os.mkfifo(tmp_path / "go")
    process = start(context, f"{redirected}; read line < go; echo fin > said; echo again > /dev/tty; exit 7")
    async with asyncio.timeout(30):
        while not _waits_to_open(process, tmp_path / "go"):
            await asyncio.sleep(0.01)
    with (tmp_path / "go").open("w") as go:
        go.write("on\n")
    assert await end(process) == 7
    assert (tmp_path / "said").read_text() == "fin\n"
    assert shown.data == b"again\r\n"


def _waits_to_open(process: Process, fifo: Path) -> bool:
    """Whether the program has let go of its terminal, and waits at the pipe."""
    program = psutil.Process(process.tree.alive()[0].pid)
    open_files = {path.readlink() for path in Path(f"/proc/{program.pid}/fd").iterdir()}
    return process._tty not in map(str, open_files) and program.status() == psutil.STATUS_SLEEPING


ASKS = "stty raw -echo; printf 'ab\\033[6n\\033[c\\033[5n'; IFS= read -r -d n answer; printf %s \"$answer\" | od -An -c"


async def test_a_program_that_asks_the_terminal_is_answered_once(context, shown):
    """The agent answers, whoever watches; what comes after the answers is an operator's key."""
    process = start(context, f"{ASKS}; IFS= read -r -n 1 key; printf 'key %s' \"$key\"")
    await shown.until(b"0")
    assert process.type(b"k") is None
    assert await end(process) == 0
    shown_text = b"".join(bytes(shown.data).split(b"\033[5n")[1].split()).replace(b"033", b"ESC")
    assert shown_text == b"ESC[1;3RESC[?1;2cESC[0keyk"


async def test_a_program_is_answered_wherever_its_query_is_cut(context, shown):
    """The parts of a query may come one by one."""
    process = start(
        context, "stty raw -echo; for c in '\\033' '[' 6 n; do printf \"$c\"; sleep 0.02; done; head -c 6 | od -An -c"
    )
    assert await end(process) == 0
    assert shown.data.split()[-6:] == [b"033", b"[", b"1", b";", b"1", b"R"]
