"""An export that asciinema plays in a pseudo-terminal shows the screen that the terminal showed."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte
from support.command_line import CommandLine
from support.recordings import add_command, add_output, add_size, add_stream

from onsembl.protocol.states import Role

COLUMNS, ROWS = 90, 20
PROGRAM = "import asciinema.__main__ as program; import sys; sys.exit(program.main())"


def played(file: Path) -> bytes:
    """The bytes that `asciinema play` writes to a terminal of this size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, "play", "--speed", "1000", "--idle-time-limit", "0.01", file],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.STDOUT,
        env={**os.environ, "ASCIINEMA_CONFIG_HOME": str(file.parent), "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError as error:  # Linux reports the end of a terminal by this error.
        if error.errno != errno.EIO:
            raise
    finally:
        os.close(ours)
    assert process.wait(60) == 0, shown.decode(errors="replace")
    return shown


def screen_of(data: bytes) -> list[str]:
    screen = pyte.Screen(COLUMNS, ROWS)
    pyte.ByteStream(screen).feed(data)
    return [line.rstrip() for line in screen.display]


async def test_asciinema_plays_an_export(api, tmp_path):
    """asciinema shows an `onsembl export` with colours, cut characters, a progress bar, the alternate screen, a marker
    and a resize as the archived bytes do."""
    stream = (
        "\x1b[1;32mgrün ✓\x1b[0m 漢字\r\n".encode()
        + b"".join(f"\r{percent:3} %".encode() for percent in range(0, 101, 5))
        + b"\r\n\x1b[?1049h\x1b[2J\x1b[5;10Hfull screen\x1b[?1049l"
        + "".join(f"line {number}\r\n" for number in range(30)).encode()
        + b"bytes \xff\xfe that are no text\r\n$ "
    )
    account = await api.operator(Role.VIEWER)
    agent = await api.enrol()
    stream_id = await add_stream(api, agent.id)
    await add_output(api, stream_id, b"before", *(stream[place : place + 7] for place in range(0, len(stream), 7)))
    await add_size(api, stream_id, 0, COLUMNS, ROWS)
    await add_size(api, stream_id, 20, COLUMNS, ROWS + 1)
    command = await add_command(api, agent.id, stream_id, "make", 6, 6 + len(stream))
    file = tmp_path / "export.cast"
    await CommandLine(api, account, tmp_path).run("export", "command", command, "-o", str(file))
    shown = screen_of(await asyncio.to_thread(played, file))
    assert shown == screen_of(stream)
    assert "bytes \ufffd\ufffd that are no text" in shown
