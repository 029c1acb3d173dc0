"""Where the output of a command is: its agent counts by the stream at the command's start, also when another followed.

No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs

from onsembl.protocol.command_messages import Ended
from onsembl.protocol.ids import StreamId
from onsembl.protocol.stream_chain import StreamChain
from onsembl.protocol.turn_steps import Step


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """The stream from which the server counts the bytes of a command; with `chain`, they may go on in other streams.

    If the place is not `known`, nothing is known of the agent's earlier output.
    """

    stream_id: StreamId
    chain: StreamChain | None = None
    known: bool = True

    def counted(self, offset: int) -> int:
        """The server's count of the byte that has this offset by the agent's count."""
        if self.chain is not None:
            return self.chain.counted(offset)
        return offset if self.known else 0

    def of_end(self, report: Ended) -> Ended:
        """The report with the server's counts."""
        start, end = report.output_start, report.output_end
        if self.chain is not None and start is not None and end is not None:
            # Its agent has written the last line of a lost command just before it connected.
            start, end = self.counted(start), self.chain.counted(end, in_last=report.outcome == "lost")
        elif not self.known:
            start = end = None
        return structs.replace(report, output_start=start, output_end=end)

    def of_steps(self, steps: Sequence[Step]) -> Sequence[Step]:
        """The steps with the server's counts."""
        if self.known and self.chain is None:
            return steps
        return [
            structs.replace(
                step, output_start=self.counted(step.output_start), output_end=self.counted(step.output_end)
            )
            for step in steps
        ]
