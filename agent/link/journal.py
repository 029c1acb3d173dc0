"""The agent's journal: the commands that it accepted, and the ends that the server has not recorded yet.

The journal is a file of lines, each on disk before the agent acts on it. An agent that starts again finds the commands
that its earlier run had not ended, and reports them lost. A text that was sent into a running turn is on disk before
the CLI gets it, so that it is never given twice.
"""

from __future__ import annotations

import errno
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Literal
from uuid import UUID

import msgspec

from onsembl.agent.link.durable import PRIVATE, replace_file
from onsembl.protocol.json_input import InputError, decode
from onsembl.protocol.messages import Accepted, Ended, Steered, SteerFate

logger = logging.getLogger(__name__)

FILE_NAME = "journal.jsonl"
REMEMBERED = 10_000
"""How many ended and recorded commands stay known, in case one is offered again: some 4 MB."""
FORGOTTEN = "The agent ran this command, and does not know its end any more."
ROOM_BYTES = 1024 * 1024
"""The room that a disk which was full must have before commands are accepted again."""
REWRITE_AT = 5 * REMEMBERED
"""The file is written anew after this many lines."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The errors of a disk, a quota or a limit that leaves no room: they pass."""


class Begun(Accepted, frozen=True, kw_only=True, tag_field="type", tag="accepted"):
    """A command is accepted. The byte at the place `base` of the spool has offset 0 in the stream of the report; None
    in journals of earlier versions."""

    base: int | None = None


class SteerGiven(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="steer_given"):
    """A text is about to be given to the CLI for the command's turn."""

    command_id: UUID
    steer_id: UUID


class Recorded(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="recorded"):
    """The server has recorded the end of this command."""

    command_id: UUID


Entry = Begun | SteerGiven | Steered | Ended | Recorded
_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
_encoder = msgspec.json.Encoder()


def _encode_begun(report: Accepted, base: int | None) -> bytes:
    return _encoder.encode(Begun(**msgspec.structs.asdict(report), base=base))


def _report(begun: Begun) -> Accepted:
    return Accepted(
        command_id=begun.command_id,
        started_at=begun.started_at,
        stream_id=begun.stream_id,
        output_start=begun.output_start,
    )


def fates(steers: Mapping[UUID, Steered | None], otherwise: Literal["late", "unknown"]) -> list[SteerFate]:
    """The fates of the texts of a turn that has ended; `otherwise` is that of those that the CLI has not taken."""
    return [
        SteerFate(steer_id=steer_id, state="taken", step=taken.step)
        if taken is not None
        else SteerFate(steer_id=steer_id, state=otherwise)
        for steer_id, taken in steers.items()
    ]


class Journal:
    """`running` and `ended` go into the agent's hello.

    The constructor raises OSError if it cannot use the folder. A full disk is no such error: the journal of an earlier
    run is read and used as it is. `on_failed` gets the text of each error in writing.
    """

    def __init__(self, folder: Path, *, rewrite_at: int = REWRITE_AT) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / FILE_NAME
        self._rewrite_at = rewrite_at
        self.failure: str | None = None
        """The error of the last write; None when it succeeded."""
        self.on_failed: Callable[[str], None] = lambda _text: None
        self.running: dict[UUID, Accepted] = {}
        self._bases: dict[UUID, int | None] = {}
        """The `base` of each running command."""
        self.ended: dict[UUID, Ended] = {}
        self._steers: dict[UUID, dict[UUID, Steered | None]] = {}
        """The texts that were given to the turn of each running command; None for one that the CLI has not taken."""
        self._recorded: OrderedDict[UUID, bytes | None] = OrderedDict()
        """The newest recorded commands, with the encoded end of each; None when an earlier version dropped it."""
        self._unwritten: list[bytes] = []
        """Lines that the disk did not take; they are written before the next one."""
        self._load()
        self.lost = list(self.running)
        """Commands that an earlier run of the agent accepted and did not end."""
        self._file = self._open()
        self._torn = True
        """Whether the file may not end with a line feed."""
        self._lines = rewrite_at
        try:
            self._rewrite()
        except OSError as error:
            if error.errno not in FULL:
                self._file.close()
                raise
            self._failed(error)
            logger.warning("The journal cannot be written: %s", error, extra={"action": "journal_failed"})

    def knows(self, command_id: UUID) -> bool:
        """Whether the command was accepted before, in whatever state it is now."""
        return command_id in self.running or command_id in self.ended or command_id in self._recorded

    def recorded_end(self, command_id: UUID) -> Ended | None:
        """The end of a command whose end was recorded, for a server that was restored from a backup since.

        It names no output: the restored archive may not have it. None when the agent does not know the command.
        """
        if command_id not in self._recorded:
            return None
        kept = self._recorded[command_id]
        if kept is None:
            return Ended(command_id=command_id, outcome="lost", ended_at=datetime.now(UTC), error=FORGOTTEN)
        end = msgspec.json.decode(kept, type=Ended)
        return msgspec.structs.replace(end, stream_id=None, output_start=None, output_end=None)

    def accepted(self, report: Accepted, base: int | None = None) -> None:
        """Record on disk that the agent accepts a command. After an OSError the command is not accepted.

        `base` is the place in the spool of the first byte of the report's stream, for a later run.
        """
        self._write(_encode_begun(report, base))
        self.running[report.command_id] = report
        self._bases[report.command_id] = base

    def steer_given(self, command_id: UUID, steer_id: UUID) -> None:
        """Record on disk that a text is about to be given to the CLI. After an OSError it is not to be given."""
        self._write(_encoder.encode(SteerGiven(command_id=command_id, steer_id=steer_id)))
        self._steers.setdefault(command_id, {})[steer_id] = None

    def steered(self, report: Steered) -> None:
        """Record that the CLI has taken a text. After an OSError this is in memory, until the next line is written."""
        self._steers[report.command_id][report.steer_id] = report
        self._unwritten.append(_encoder.encode(report))
        self._write()

    def steers(self, command_id: UUID) -> dict[UUID, Steered | None]:
        """The texts that were given to the command's turn; None for one that the CLI has not taken."""
        return self._steers.get(command_id, {})

    def end(self, report: Ended) -> None:
        """Record a command's end, which is kept until the server has recorded it.

        After an OSError the end is in memory only, until the next line is written.
        """
        self._not_running(report.command_id)
        self.ended[report.command_id] = report
        self._unwritten.append(_encoder.encode(report))
        self._write()

    def recorded(self, command_id: UUID) -> None:
        """Note that the server has recorded the end. It stays known until many later commands have ended."""
        end = self.ended.pop(command_id, None)
        if end is None:
            return
        self._remember(command_id, end)
        try:
            # Not synced to the disk: at worst the end is reported and recorded again.
            self._unwritten.append(_encoder.encode(Recorded(command_id=command_id)))
            self._write(durable=False)
            if self._lines >= self._rewrite_at:
                self._rewrite()
        except OSError as error:
            logger.warning("The journal cannot be written: %s", error, extra={"action": "journal_failed"})

    def base(self, command_id: UUID) -> int | None:
        """The `base` with which a running command was accepted."""
        return self._bases[command_id]

    def end_as_lost(self, command_id: UUID, found_end: int | None, output_end: int | None) -> None:
        """Record that a command ended with an earlier run of the agent, and its output at `output_end`. The bytes of
        the earlier run end at `found_end`. Both are counted by the stream of its acceptance.

        If the beginning of the output is lost, the end names no output. Raises OSError as `end` does.
        """
        accepted = self.running[command_id]
        kept = found_end is not None and accepted.output_start <= found_end
        self.end(
            Ended(
                command_id=command_id,
                outcome="lost",
                started_at=accepted.started_at,
                ended_at=datetime.now(UTC),
                stream_id=accepted.stream_id if kept else None,
                output_start=accepted.output_start if kept else None,
                output_end=output_end if kept else None,
                error="The agent was restarted while the command ran.",
                steers=fates(self.steers(command_id), "unknown"),
            )
        )

    def has_room(self) -> bool:
        """Whether the folder can be written again, with room for what comes next."""
        probe = self._path.with_name("room")
        try:
            replace_file(probe, [bytes(ROOM_BYTES)])
            self._write()
        except OSError:
            return False
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _load(self) -> None:
        if not self._path.exists():
            return
        for line in self._path.read_bytes().splitlines():
            try:
                entry = decode(_decoder, line)
            except InputError:
                continue  # a line that a crash or a full disk has cut off
            match entry:
                case Begun():
                    self.running[entry.command_id] = _report(entry)
                    self._bases[entry.command_id] = entry.base
                case SteerGiven():
                    self._steers.setdefault(entry.command_id, {}).setdefault(entry.steer_id, None)
                case Steered():
                    self._steers.setdefault(entry.command_id, {})[entry.steer_id] = entry
                case Ended():
                    self._not_running(entry.command_id)
                    self.ended[entry.command_id] = entry
                case Recorded():
                    self._not_running(entry.command_id)
                    self._remember(entry.command_id, self.ended.pop(entry.command_id, None))

    def _not_running(self, command_id: UUID) -> None:
        for about in (self.running, self._bases, self._steers):
            about.pop(command_id, None)

    def _remember(self, command_id: UUID, end: Ended | None) -> None:
        self._recorded[command_id] = _encoder.encode(end) if end is not None else None
        if len(self._recorded) > REMEMBERED:
            self._recorded.popitem(last=False)

    def _write(self, *lines: bytes, durable: bool = True) -> None:
        """Write the lines that the disk did not take before, and these. After an OSError the file has none of them."""
        whole = [*self._unwritten, *lines]
        # If a full disk has cut the last line off, a line feed first keeps these lines apart from it.
        text = (b"\n" if self._torn else b"") + b"".join(line + b"\n" for line in whole)
        size = os.fstat(self._file.fileno()).st_size
        try:
            self._append(text, durable=durable)
        except OSError as error:
            self._failed(error)
            # A later run must not take a command for accepted that is not.
            with suppress(OSError):
                self._file.truncate(size)
            raise
        self.failure = None
        self._unwritten.clear()
        self._lines += len(whole)

    def _failed(self, error: OSError) -> None:
        self.failure = f"The agent cannot write its journal: {error}"
        self.on_failed(self.failure)

    def _append(self, text: bytes, *, durable: bool) -> None:
        self._torn = True
        left = memoryview(text)
        while left:  # a disk that is nearly full takes a part, and then tells its error
            left = left[self._file.write(left) :]
        self._torn = False
        if durable:
            os.fsync(self._file.fileno())

    def _open(self) -> FileIO:
        # It may be a new file, which only its owner can read.
        return FileIO(self._path, "ab", opener=lambda path, flags: os.open(path, flags, PRIVATE))

    def _rewrite(self) -> None:
        """Write the file anew, without the lines that are not needed. After an OSError it can still be used."""
        lines: list[bytes] = []
        for command_id, end in self._recorded.items():
            if end is not None:
                lines.append(end)
            lines.append(_encoder.encode(Recorded(command_id=command_id)))
        lines += [_encoder.encode(end) for end in self.ended.values()]
        lines += [_encode_begun(report, self._bases[id]) for id, report in self.running.items()]
        for command_id, steers in self._steers.items():
            for steer_id, taken in steers.items():
                lines.append(_encoder.encode(taken or SteerGiven(command_id=command_id, steer_id=steer_id)))
        try:
            replace_file(self._path, (line + b"\n" for line in lines))
        finally:
            # Also after an error the new file may have taken the place of the old one.
            file = self._open()
            self._file.close()
            self._file = file
        self._lines = len(lines)
        self._torn = False
        self._unwritten.clear()
