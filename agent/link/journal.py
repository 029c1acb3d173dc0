"""The agent's journal: the commands that it accepted, and the ends that the server has not recorded yet.

The journal is a file of lines, each on disk before the agent acts on it. An agent that starts again finds the commands
that its earlier run had not ended, and reports them lost.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec

from onsembl.agent.link.durable import replace_file
from onsembl.protocol.json_input import InputError, decode
from onsembl.protocol.messages import Accepted, Ended

logger = logging.getLogger(__name__)

FILE_NAME = "journal.jsonl"
REMEMBERED = 10_000
"""How many ended and recorded commands stay known, in case one is offered again: some 4 MB."""
FORGOTTEN = "The agent ran this command, and does not know its end any more."
ROOM_BYTES = 1024 * 1024
"""The room that a disk which was full must have before commands are accepted again."""
REWRITE_AT = 5 * REMEMBERED
"""The file is written anew after this many lines."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="recorded"):
    """The server has recorded the end of this command."""

    command_id: UUID


_decoder: msgspec.json.Decoder[Accepted | Ended | Recorded] = msgspec.json.Decoder(Accepted | Ended | Recorded)
_encoder = msgspec.json.Encoder()


class Journal:
    """`running` and `ended` go into the agent's hello. The constructor raises OSError if it cannot use the folder."""

    def __init__(self, folder: Path, *, rewrite_at: int = REWRITE_AT) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / FILE_NAME
        self._rewrite_at = rewrite_at
        self.running: dict[UUID, Accepted] = {}
        self.ended: dict[UUID, Ended] = {}
        self._recorded: OrderedDict[UUID, bytes | None] = OrderedDict()
        """The newest recorded commands, with the encoded end of each; None when an earlier version dropped it."""
        self._load()
        self.lost = list(self.running)
        """Commands that an earlier run of the agent accepted and did not end."""
        self._rewrite()

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
        return msgspec.structs.replace(end, output_start=None, output_end=None)

    def accepted(self, report: Accepted) -> None:
        """Record on disk that the agent accepts a command. After an OSError the command is not accepted."""
        self._append(report)
        self.running[report.command_id] = report

    def end(self, report: Ended) -> None:
        """Record a command's end, which is kept until the server has recorded it.

        After an OSError the end is kept in memory only.
        """
        self.running.pop(report.command_id, None)
        self.ended[report.command_id] = report
        self._append(report)

    def recorded(self, command_id: UUID) -> None:
        """Note that the server has recorded the end. It stays known until many later commands have ended."""
        end = self.ended.pop(command_id, None)
        if end is None:
            return
        self._remember(command_id, end)
        try:
            # Not synced to the disk: at worst the end is reported and recorded again.
            self._append(Recorded(command_id=command_id), durable=False)
            if self._lines >= self._rewrite_at:
                self._file.close()
                self._rewrite()
        except OSError as error:
            logger.warning("The journal cannot be written: %s", error, extra={"action": "journal_failed"})

    def end_as_lost(self, command_id: UUID, output_end: int) -> None:
        """Record that a command ended with an earlier run of the agent, and its output at `output_end`.

        If the terminal's stream began anew meanwhile, the end names no output. Raises OSError as `end` does.
        """
        accepted = self.running[command_id]
        kept = accepted.output_start <= output_end
        self.end(
            Ended(
                command_id=command_id,
                outcome="lost",
                started_at=accepted.started_at,
                ended_at=datetime.now(UTC),
                output_start=accepted.output_start if kept else None,
                output_end=output_end if kept else None,
                error="The agent was restarted while the command ran.",
            )
        )

    def has_room(self) -> bool:
        """Whether the folder can be written again, with room for what comes next."""
        probe = self._path.with_name("room")
        try:
            replace_file(probe, [bytes(ROOM_BYTES)])
        except OSError:
            return False
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
                probe.with_name(probe.name + ".partial").unlink(missing_ok=True)
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
                case Accepted():
                    self.running[entry.command_id] = entry
                case Ended():
                    self.running.pop(entry.command_id, None)
                    self.ended[entry.command_id] = entry
                case Recorded():
                    self._remember(entry.command_id, self.ended.pop(entry.command_id, None))

    def _remember(self, command_id: UUID, end: Ended | None) -> None:
        self._recorded[command_id] = _encoder.encode(end) if end is not None else None
        if len(self._recorded) > REMEMBERED:
            self._recorded.popitem(last=False)

    def _append(self, entry: msgspec.Struct, *, durable: bool = True) -> None:
        # If a full disk has cut the last line off, a line feed first keeps this line apart from it.
        line = (b"\n" if self._torn else b"") + _encoder.encode(entry) + b"\n"
        self._torn = True
        written = self._file.write(line)
        if written != len(line):
            raise OSError(f"only {written} of {len(line)} bytes were written to {self._path}")
        self._torn = False
        self._lines += 1
        if durable:
            os.fsync(self._file.fileno())

    def _rewrite(self) -> None:
        """Write the file anew, without the lines that are not needed any more."""
        lines: list[bytes] = []
        for command_id, end in self._recorded.items():
            if end is not None:
                lines.append(end)
            lines.append(_encoder.encode(Recorded(command_id=command_id)))
        lines += [_encoder.encode(entry) for entry in (*self.ended.values(), *self.running.values())]
        replace_file(self._path, (line + b"\n" for line in lines))
        self._file = self._path.open("ab", buffering=0)
        self._lines = len(lines)
        self._torn = False
