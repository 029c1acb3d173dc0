"""Whether a program waits at its terminal: by real programs, and by what other kernels tell."""

from __future__ import annotations

import os
import platform
import pty
from pathlib import Path
from uuid import uuid4

import pytest
from agent.conftest import until

from onsembl.agent.drivers.shell import ShellDriver
from onsembl.agent.process.terminal_reader import reads_terminal
from onsembl.protocol.messages import Offer

RAW = "import select,tty;tty.setcbreak(0);print('ready',flush=True);select.select([0],[],[])"


@pytest.mark.parametrize(
    ("script", "reads"),
    [
        ("echo ready; read line", True),
        ("echo ready; cat", True),
        (f'exec python3 -c "{RAW}"', True),
        ("echo ready; exec sleep 1000", False),
        ("echo ready; sleep 1000 | cat", False),
    ],
)
async def test_what_real_programs_wait_for(context, shown, script, reads):
    """A program that reads its terminal is told from one that sleeps, or reads something else."""
    process = ShellDriver().start(Offer(command_id=uuid4(), text=script), context).process
    await shown.until(b"ready\r\n")
    if reads:
        await until(process.reads_terminal, "it reads")
    assert process.reads_terminal() == reads
    process.press_interrupt(b"\x03")
    await process.exited
    await process.drain()
    process.close()
    assert not process.reads_terminal()


@pytest.mark.parametrize(
    ("files", "reads"),
    [
        ({"syscall": "READ 0x0 0x7f 0x1", "fd/0": "TTY"}, True),
        ({"syscall": "READ 0x3 0x7f 0x1", "fd/3": "/dev/tty"}, True),
        ({"syscall": "READ 0x3 0x7f 0x1", "fd/3": "socket:[1]"}, False),
        ({"syscall": "READ 0x9 0x7f 0x1"}, False),
        ({"syscall": "9999 0x0", "fd/0": "TTY"}, False),
        ({"syscall": "running"}, False),
        ({"wchan": "n_tty_read"}, True),
        ({"wchan": "0"}, False),
        ({}, False),
    ],
)
def test_what_the_kernel_tells(tmp_path: Path, files: dict[str, str], reads: bool):
    """The call and its descriptor; without them the place where the process sleeps; without both, nothing."""
    control, inside = pty.openpty()
    tty = os.ttyname(inside)
    process = tmp_path / "1"
    (process / "fd").mkdir(parents=True)
    group = os.tcgetpgrp(control)  # 0: no session has the terminal
    (process / "stat").write_text(f"1 (a ) name) S 0 {group} 0")
    for name, content in files.items():
        if name.startswith("fd/"):
            (process / name).symlink_to(content.replace("TTY", tty))
        else:
            number = {"x86_64": "0", "aarch64": "63"}[platform.machine()]
            (process / name).write_text(content.replace("READ", number))
    try:
        assert reads_terminal(control, tty, tmp_path) == reads
    finally:
        os.close(control)
        os.close(inside)
