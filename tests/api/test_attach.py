"""`onsembl attach`, in a real pseudo-terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import shlex
import signal
import struct
import sys
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from support.agents import CuttableLink, Operator, agent_running
from support.command_line import CommandLine
from support.forked import ForkedProcess
from support.server import Account, Api

from onsembl.protocol.states import Role

READS_LINES = shlex.join(
    [
        sys.executable,
        "-c",
        """import os, select, signal
woken, wakes = os.pipe()
os.set_blocking(wakes, False)
signal.set_wakeup_fd(wakes)
signal.signal(signal.SIGWINCH, lambda *_: None)
print("reads", flush=True)
while True:
    ready, _, _ = select.select([0, woken], [], [])
    if woken in ready:
        os.read(woken, 64)
        os.write(1, b"%d %d\\n" % tuple(reversed(os.get_terminal_size())))
    if 0 in ready:
        print(f"<{input()}>", flush=True)""",
    ]
)
"""Echoes each line, and prints the terminal's size when it changes. (A handler of the signal is called only after the
next line where the signal comes just before the program waits for one. Bash's `read -t` loses what comes as its time
runs out.)"""


class Person:
    """Somebody at a terminal of 100 × 30 in which `onsembl attach` runs."""

    def __init__(self, process: ForkedProcess, master: int, slave: int, before: list[object]) -> None:
        self.process = process
        self.master, self.slave = master, slave
        self.before = before
        self.seen = b""
        self._more = asyncio.Event()
        os.set_blocking(master, False)
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        self.seen += os.read(self.master, 65_536)
        self._more.set()

    async def sees(self, text: bytes) -> None:
        """Wait until the terminal has shown this text."""
        try:
            async with asyncio.timeout(60):
                while text not in self.seen:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError as error:
            raise AssertionError(f"{text!r} is not in {self.seen[-2000:]!r}") from error

    def types(self, text: str) -> None:
        os.write(self.master, text.encode())

    def resizes(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    async def left(self) -> int:
        """The exit code; the terminal must have its settings and modes again."""
        async with asyncio.timeout(60):
            code = await self.process.wait()
        assert termios.tcgetattr(self.slave) == self.before, "the terminal's settings are not restored"
        await self.sees(b"Detached from one.")
        left, entered = (self.seen.rfind(mode) for mode in (b"\x1b[?1049l", b"\x1b[?1049h"))
        assert left > entered, "the terminal is left on the alternate screen"
        return code


@asynccontextmanager
async def attached(api: Api, account: Account, folder: Path, *options: str, url: str = "") -> AsyncGenerator[Person]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    before = termios.tcgetattr(slave)
    server = ("--server", url) if url else ()
    process = await CommandLine(api, account, folder).start(
        "attach", "one", *server, *options, stdin=slave, stdout=slave, stderr=slave
    )
    try:
        yield Person(process, master, slave, before)
    finally:
        asyncio.get_running_loop().remove_reader(master)
        process.kill()
        await process.wait()
        os.close(master)
        os.close(slave)


async def test_a_person_types_into_an_agents_terminal_and_detaches(api: Api, tmp_path: Path):
    """The program's output is shown and keys reach it; it has this window's size; a lost link is resumed at the next
    byte; the detach key ends only the window, and the terminal is as before."""
    account = await api.operator(Role.OPERATOR)
    async with agent_running(api, tmp_path) as agent, CuttableLink(api.url) as link:
        operator = Operator(api, account)
        command = await operator.send(agent.id, READS_LINES)
        await operator.until_state(command, "running")
        async with attached(api, account, tmp_path, url=link.url) as person:
            await person.sees(b"reads")
            person.types("héllo\r")
            await person.sees("<héllo>".encode())
            link.sever()
            await person.sees(b"reconnecting")
            person.types("meanwhile\r")
            link.mend()
            await person.sees(b"<meanwhile>")
            assert person.seen.count("<héllo>".encode()) == 1, "bytes came twice"
            person.resizes(90, 25)
            await person.sees(b"25 90")
            person.types("\x1d")
            assert await person.left() == 0
        assert (await operator.read(command))["state"] == "running"


async def test_control_is_taken_over_in_plain_view_and_a_signal_restores_the_terminal(api: Api, tmp_path: Path):
    """A second window only watches and is told who has control; T twice takes it over, and both are told. With
    --watch nothing is typed. SIGTERM restores the terminal."""
    one, two = await api.operator(Role.OPERATOR), await api.operator(Role.ADMIN)
    async with agent_running(api, tmp_path) as agent:
        command = await Operator(api, one).send(agent.id, f"printf '\\033[?1049h'; {READS_LINES}")
        await Operator(api, one).until_state(command, "running")
        async with (
            attached(api, one, tmp_path) as first,
            attached(api, two, tmp_path, "--watch") as watching,
        ):
            await first.sees(b"reads")
            first.types("first\r")
            await first.sees(b"<first>")
            await watching.sees(b"<first>")
            watching.types("no\r\x1d")
            assert await watching.left() == 0
            async with attached(api, two, tmp_path, "--detach-key", "ctrl-a") as second:
                await second.sees(b"controls this terminal; t asks for control")
                second.types("TT")
                await first.sees(b"controls this terminal")
                await second.sees(b"you control this terminal")
                second.types("second\r")
                await first.sees(b"<second>")
                assert b"<no>" not in first.seen
                second.types("\x01")
                assert await second.left() == 0
            first.process.send_signal(signal.SIGTERM)
            assert await first.left() == 128 + signal.SIGTERM


async def test_without_a_terminal_or_an_agent_it_says_so(api: Api, tmp_path: Path):
    """Without a terminal, for an unknown agent or with a key that is none, the command fails with the reason."""
    run = CommandLine(api, await api.operator(), tmp_path).run
    await api.enrol("one")
    for code, arguments, reason in (
        (1, ["one"], "needs a terminal"),
        (1, ["nobody"], "There is no agent nobody."),
        (2, ["one", "--detach-key", "q"], "is no key with Ctrl"),
    ):
        assert reason in (await run("attach", *arguments, code=code))[1]
