"""The steps of commands on their way to the server: on disk until the server has them, in files of the agent's folder.

Each command has a file of lines: the stream by which the offsets are counted, then one record a line. A record is a
step in a revision, so that the server may get it twice. A disk that is full loses steps, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import msgspec

from onsembl.protocol.turn_steps import MAX_STEPS_IN_MESSAGE, Step, Steps

logger = logging.getLogger(__name__)

BATCH_BYTES = 512 * 1024
"""Of a batch of several records; a single record may be longer."""
MAX_FILE_BYTES = 256 * 2**20
"""Further steps of a command are lost."""


class _Head(msgspec.Struct, frozen=True):
    """The first line of a file; those of earlier versions have none."""

    stream_id: UUID | None


_encoder = msgspec.json.Encoder()
_head_decoder = msgspec.json.Decoder(_Head)
_decoder = msgspec.json.Decoder(Step)


@dataclass(slots=True)
class _CommandFile:
    """The records of one command. Those before `place`, whose number is `recorded`, the server has."""

    path: Path
    stream_id: UUID | None
    size: int
    file: BinaryIO | None = None
    place: int = 0
    recorded: int = 0


class StepLog:
    """`add` takes steps, `next_batch` returns what is to be sent; one batch at a time is on its way.

    The constructor raises OSError if it cannot use the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "steps"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._files: dict[UUID, _CommandFile] = {}
        self.on_added: Callable[[], None] = lambda: None
        """Called when there are steps to send."""
        self._sent: tuple[UUID, int, int] | None = None
        """The batch on its way: the command, the number of its last record, and the place in the file after it."""
        for path in sorted(self._folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
            try:
                command_id = UUID(path.stem)
            except ValueError:
                continue  # a file of another program
            _end_open_steps(path)
            self._files[command_id] = _CommandFile(path, _stream_of(path), path.stat().st_size)

    @property
    def empty(self) -> bool:
        """Whether the server has every record."""
        return all(file.place >= file.size for file in self._files.values())

    def add(self, command_id: UUID, steps: list[Step], stream_id: UUID | None = None) -> None:
        """Keep steps until the server has them; their offsets are counted by this stream, which is the same for all
        steps of a command. On a full disk they are lost."""
        try:
            file = self._files.get(command_id)
            if file is None:
                path = self._folder / f"{command_id}.jsonl"
                file = self._files[command_id] = _CommandFile(path, stream_id, 0, path.open("ab", buffering=0))
            lines: list[_Head | Step] = [*steps] if file.size else [_Head(stream_id), *steps]
            for entry in lines:
                line = _encoder.encode(entry) + b"\n"
                if file.file is not None and file.size + len(line) <= MAX_FILE_BYTES:
                    written = file.file.write(line)
                    if written != len(line):  # the rest of a torn line would spoil the next one
                        file.file.truncate(file.size)
                        return
                    file.size += written
        except OSError as error:
            logger.warning("Steps are lost: %s", error, extra={"action": "steps_lost"})
        self.on_added()

    def ended(self, command_id: UUID) -> None:
        """Note that no more steps of the command will come."""
        file = self._files.get(command_id)
        if file is not None and file.file is not None:
            file.file.close()
            file.file = None
            self._remove_if_done(command_id, file)

    def next_batch(self) -> Steps | None:
        """The next records to send; None while a batch is on its way, or when there are none."""
        if self._sent is not None:
            return None
        for command_id, file in list(self._files.items()):
            if file.place < file.size and (batch := self._read(command_id, file)) is not None:
                return batch
        return None

    def recorded(self, command_id: UUID, through: int) -> None:
        """Note that the server has the batch that ends with this record."""
        if self._sent is None or self._sent[:2] != (command_id, through):
            return  # of an earlier connection
        file = self._files[command_id]
        file.place, file.recorded = self._sent[2], through
        self._sent = None
        self._remove_if_done(command_id, file)

    def resend(self) -> None:
        """Send the batch on its way again: the connection is a new one."""
        self._sent = None

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            if file.file is not None:
                file.file.close()

    def _read(self, command_id: UUID, file: _CommandFile) -> Steps | None:
        steps: list[Step] = []
        place = file.place
        try:
            with file.path.open("rb") as stream:
                stream.seek(place)
                while place < file.size and len(steps) < MAX_STEPS_IN_MESSAGE:
                    line = stream.readline()
                    if not line:  # the file has become shorter
                        place = file.size
                        break
                    if steps and place + len(line) - file.place > BATCH_BYTES:
                        break
                    place += len(line)
                    try:
                        steps.append(_decoder.decode(line))
                    except msgspec.MsgspecError:
                        continue  # the head, or a line that a crash has cut off
        except OSError as error:
            logger.warning("Steps are lost: %s", error, extra={"action": "steps_lost"})
            place = file.size
        if not steps:
            file.place = file.size
            self._remove_if_done(command_id, file)
            return None
        through = file.recorded + len(steps)
        self._sent = (command_id, through, place)
        return Steps(command_id=command_id, stream_id=file.stream_id, through=through, steps=steps)

    def _remove_if_done(self, command_id: UUID, file: _CommandFile) -> None:
        if file.file is None and file.place >= file.size:
            file.path.unlink(missing_ok=True)
            del self._files[command_id]


def _stream_of(path: Path) -> UUID | None:
    try:
        with path.open("rb") as stream:
            return _head_decoder.decode(stream.readline()).stream_id
    except (OSError, msgspec.MsgspecError):
        return None


def _end_open_steps(path: Path) -> None:
    """End the steps that have no end because the agent was killed: of their command nothing runs any more."""
    still_open: dict[int, Step] = {}
    line = b"\n"
    try:
        with path.open("rb") as stream:
            for line in stream:
                try:
                    step = _decoder.decode(line)
                except msgspec.MsgspecError:
                    continue  # a line that a crash has cut off
                still_open.pop(step.number, None)
                if step.status in ("pending", "in_progress"):
                    still_open[step.number] = step
        if still_open:
            now = datetime.now(UTC)
            ended = [
                msgspec.structs.replace(step, revision=step.revision + 1, status="failed", ended_at=now)
                for step in still_open.values()
            ]
            before = b"" if line.endswith(b"\n") else b"\n"
            with path.open("ab") as file:
                file.write(before + b"".join(_encoder.encode(step) + b"\n" for step in ended))
    except OSError as error:
        logger.warning("Steps stay open: %s", error, extra={"action": "steps_lost"})
