"""The command that agents run under faults: it writes bytes derived from a seed, between two marks.

    python writer.py SEED STOP COUNT

It exits when the file STOP exists, and writes to the file COUNT how many bytes are between the marks.
"""

from __future__ import annotations

import os
import random
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

BEGIN, END = b"\x02begin of %d\x02", b"\x03end of %d\x03"


def chunks(seed: int) -> Iterator[bytes]:
    """Endless random chunks of any bytes, UTF-8 or not."""
    chance = random.Random(seed)
    while True:
        yield chance.randbytes(chance.choice((1, 3, 40, 40, 400, 4000)))


def expected(seed: int, count: int) -> bytes:
    """The first `count` bytes of the chunks."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks(seed):
        if size >= count:
            return b"".join(parts)[:count]
        parts.append(chunk)
        size += len(chunk)
    raise AssertionError


def write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def main(seed: int, stop: Path, count: Path) -> None:
    tty.setraw(1)  # The terminal passes the bytes on unchanged.
    write(BEGIN % seed)
    written = 0
    for number, chunk in enumerate(chunks(seed)):
        write(chunk)
        written += len(chunk)
        if number % 8 == 0:
            time.sleep(0.1)  # A minute without a server produces fewer bytes than the ring holds.
            if stop.exists():
                break
    count.write_text(str(written))
    write(END % seed)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
