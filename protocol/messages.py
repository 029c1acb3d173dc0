"""Control messages of the two WebSockets, as JSON text frames tagged by `type`.

Terminal bytes are binary frames. On the agent's socket such a frame is `OUTPUT_HEADER` (the absolute offset of its
first byte, 8 bytes, big-endian) and then raw bytes. On a terminal's socket it is raw bytes alone: the viewer knows the
first offset from `attached`, and counts.

Agent's socket `/v1/agent`, subprotocol `onsembl.agent.v1`, access token in the `Authorization` header:

    agent                               server
      hello            →
                       ←                  welcome          where to resume, the connection's epoch
      (binary output)  →
                       ←                  acknowledged     the bytes below an offset are archived
                       ←                  resend           send again from an offset that the archive lacks
                       ←                  offer            run this command
                       ←                  steer            put this text into the running turn
      steered          →                                   the CLI has taken the text
      accepted         →                                   repeated when the command is offered again
      used             →                                   the command's usage, when it has grown
      last_line        →                                   the last line of the command's output, when it has changed
      ended            →                                   repeated until recorded
                       ←                  end_recorded
      steps            →                                   of a turn; repeated until recorded
                       ←                  steps_recorded
      open_requests    →                                   all requests that wait for a person, after the welcome
      asked            →                                   a request; repeated after a reconnect while it is open
      withdrawn        →
                       ←                  answer           repeated until taken
      answer_taken     →
      work_clock       →                                   the command only waits for a person, or goes on
                       ←                  cancel
      cancel_step      →                                   each stage of the escalation
                       ←                  halt             stop everything, fast
      halt_progress    →                                   until no process is left
                       ←                  halt_lifted
                       ←                  leave            exit, or start anew
      problem          →                                   the agent takes no command; null when it is over
                       ←                  resize
      resized          →
                       ←                  keys             type these, each number once
      keys_taken       →
                       ←                  redraw           for a viewer that lacks earlier output
                       ←                  look             show a file or a folder of the working folder
      look_part        →                                   a part of the answer
      refresh          →                                   before the access token expires
                       ←                  tokens           the next pair
      ping / pong      ↔                  ping / pong      any frame extends the deadline

Terminal's socket `/v1/agents/{id}/terminal`, subprotocol `onsembl.terminal.v1`:

    browser                             server
      attach           →                                   the access token and the next byte wanted
                       ←                  attached         exact, tail or gap
                       ←                  (binary output)
                       ←                  times            when the next bytes were received, if the viewer asks for it
                       ←                  gap              bytes that left the ring before this viewer had them
                       ←                  stream_started   the agent began a new stream
                       ←                  resized
      resize           →                                   from the controller, or from anyone without one
                       ←                  controlled       who has control and who waits for it
      take_control     →
      grant_control    →
      release_control  →
      keys             →                                   repeated until answered
                       ←                  keys_taken
      token            →                                   a newer access token for the same operator
      ping / pong      ↔                  ping / pong
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from onsembl.protocol.attention_messages import Answer as Answer
from onsembl.protocol.attention_messages import AnswerTaken as AnswerTaken
from onsembl.protocol.attention_messages import Asked as Asked
from onsembl.protocol.attention_messages import OpenRequests as OpenRequests
from onsembl.protocol.attention_messages import Withdrawn as Withdrawn
from onsembl.protocol.command_messages import Accepted as Accepted
from onsembl.protocol.command_messages import Cancel as Cancel
from onsembl.protocol.command_messages import CancelStep as CancelStep
from onsembl.protocol.command_messages import Ended as Ended
from onsembl.protocol.command_messages import EndRecorded as EndRecorded
from onsembl.protocol.command_messages import LastLine as LastLine
from onsembl.protocol.command_messages import Offer as Offer
from onsembl.protocol.command_messages import Outcome as Outcome
from onsembl.protocol.command_messages import Steer as Steer
from onsembl.protocol.command_messages import Steered as Steered
from onsembl.protocol.command_messages import SteerFate as SteerFate
from onsembl.protocol.command_messages import Used as Used
from onsembl.protocol.command_messages import WorkClockState as WorkClockState
from onsembl.protocol.field_types import END, NO_NUL, Bounded, Count, Credential
from onsembl.protocol.field_types import Columns as Columns
from onsembl.protocol.field_types import EscalationStage as EscalationStage
from onsembl.protocol.field_types import Message as Message
from onsembl.protocol.field_types import Name as Name
from onsembl.protocol.field_types import OffsetField as OffsetField
from onsembl.protocol.field_types import ProblemText as ProblemText
from onsembl.protocol.field_types import Reason as Reason
from onsembl.protocol.field_types import Rows as Rows
from onsembl.protocol.field_types import ShortText as ShortText
from onsembl.protocol.files import Look as Look
from onsembl.protocol.files import LookPart as LookPart
from onsembl.protocol.halt_messages import Halt as Halt
from onsembl.protocol.halt_messages import HaltLifted as HaltLifted
from onsembl.protocol.halt_messages import HaltProgress as HaltProgress
from onsembl.protocol.halt_messages import Leave as Leave
from onsembl.protocol.json_input import InputError, decode
from onsembl.protocol.keyboard_messages import Controlled as Controlled
from onsembl.protocol.keyboard_messages import GrantControl as GrantControl
from onsembl.protocol.keyboard_messages import Keys as Keys
from onsembl.protocol.keyboard_messages import KeysTaken as KeysTaken
from onsembl.protocol.keyboard_messages import Redraw as Redraw
from onsembl.protocol.keyboard_messages import ReleaseControl as ReleaseControl
from onsembl.protocol.keyboard_messages import TakeControl as TakeControl
from onsembl.protocol.states import AgentKind, AgentMode
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.protocol.turn_steps import Steps as Steps
from onsembl.protocol.turn_steps import StepsRecorded as StepsRecorded
from onsembl.protocol.usage import Usage as Usage

AGENT_SUBPROTOCOL = "onsembl.agent.v1"
TERMINAL_SUBPROTOCOL = "onsembl.terminal.v1"
MAX_MESSAGE_BYTES = 1024 * 1024
"""The limit of a frame, in bytes; of a text frame, in UTF-8."""
FIRST_MESSAGE_SECONDS = 5.0

HeartbeatSeconds = Annotated[float, Meta(gt=0, le=24 * 3600)]

OUTPUT_HEADER = struct.Struct(">Q")
MAX_OUTPUT_BYTES = 64 * 1024
"""The most terminal bytes in one frame: few enough that control messages do not wait long behind a frame."""


# Both directions


class Ping(Message, tag="ping", frozen=True, kw_only=True):
    """Answer with `pong`."""


class Pong(Message, tag="pong", frozen=True, kw_only=True):
    """The answer to `ping`."""


# Agent to server


class EarlierStream(Bounded, frozen=True, kw_only=True):
    """A stream of the agent before its present one, whose first byte has the offset `at` in it."""

    id: UUID
    at: OffsetField


MAX_EARLIER_STREAMS = 8


class StreamTail(Bounded, frozen=True, kw_only=True):
    """The bytes of a stream that the agent still has: from `start` up to `end`.

    Bytes below `sent_end` are those that the agent may have sent. An agent whose program has started again has lost the
    bytes that were not on its disk; the bytes that it wrote since are above `sent_end`, at the offsets of lost bytes.
    None comes from agents of the first release. `earlier` has the streams before, the latest first: a server that was
    restored from a backup may know one of them alone.
    """

    id: UUID
    start: OffsetField
    end: OffsetField
    sent_end: OffsetField | None = None
    earlier: Annotated[list[EarlierStream], Meta(max_length=MAX_EARLIER_STREAMS)] = []


class Hello(Message, tag="hello", frozen=True, kw_only=True):
    """The first message of an agent: its version and machine, its output, and its unfinished commands.

    `stream` is None when the agent has no stream yet. `running` and `ended` have every command that the agent has
    accepted and whose end the server has not recorded; a command in neither list never reached the agent.
    """

    version: ShortText
    kind: AgentKind
    mode: AgentMode
    host: ShortText
    platform: ShortText
    columns: Columns
    rows: Rows
    stream: StreamTail | None = None
    boot: UUID | None = None
    """Identifies this run of the agent's program. A later run does not type keys that were sent to this one."""
    attempt: Count | None = None
    """How often this run has tried to connect. A hello that is read late replaces no connection of a later attempt."""
    running: Annotated[list[Accepted], Meta(max_length=16)] = []
    ended: Annotated[list[Ended], Meta(max_length=256)] = []
    recalls: bool = False
    """Whether the agent answers `recall` in the welcome; agents of the first release do not."""
    problem: ProblemText | None = None
    """Why the agent takes no command, as in `problem`."""
    cli: Annotated[str, Meta(min_length=1, max_length=64, pattern=NO_NUL)] | None = None
    """The program of the CLI, where the kind does not name it."""
    takes_steers: bool = False
    """Whether the agent puts texts into a running turn (`steer`)."""
    takes_rules: bool = False
    """Whether the agent holds a turn to its `rules`."""
    takes_attachments: bool = False
    """Whether the agent gives files to its coding CLI (`attachments` of a turn)."""
    takes_answers: bool = False
    """Whether the agent sends `asked` and takes `answer`."""
    tells_work_clock: bool = False
    """Whether the agent knows `work_seconds` and `waiting_seconds`, and sends `work_clock`."""
    takes_forks: bool = True
    """Whether its coding CLI copies a conversation (`fork_of` of a turn). Agents of an earlier release do not tell."""
    shows_files: bool = False
    """Whether the agent answers `look`: it was started with `--files`."""
    folder: ShortText = ""
    """The folder in which its commands run; of a longer path, the end. Agents of an earlier release do not tell."""
    branch: ShortText | None = None
    """The git branch of the folder, or a short commit id; None outside of git."""

    def is_late(self, boot: UUID | None, attempt: int | None) -> bool:
        """Whether the server has taken a later attempt of the same run, whose hello had these values."""
        if boot is None or attempt is None or self.attempt is None:
            return False
        return boot == self.boot and attempt > self.attempt


class AgentProblem(Message, tag="problem", frozen=True, kw_only=True):
    """The agent takes no command, for this reason: its folder cannot be written. None when the problem is over.

    The server puts a command that the agent has not accepted back in the queue, and offers none until it is over.
    `number` counts these messages on the connection, from 1: offers repeat it as `problems`.
    """

    problem: ProblemText | None
    number: Count


class SizeApplied(Message, tag="resized", frozen=True, kw_only=True):
    """The pseudo-terminal has this size from the byte at `offset` on; that byte may not be sent yet."""

    columns: Columns
    rows: Rows
    offset: OffsetField = 0


class Refresh(Message, tag="refresh", frozen=True, kw_only=True):
    """Exchange the refresh token for the next pair of tokens, over the present connection.

    `recovery_hash` is the SHA-256 hash, in hex, of the agent's recovery secret, and empty when it has none. If the
    server has another, it sends a new secret. None comes from agents that cannot keep one.
    """

    refresh_token: Credential
    recovery_hash: Annotated[str, Meta(pattern="^([0-9a-f]{64})?" + END, max_length=64)] | None = None


# Server to agent


class Tokens(Message, tag="tokens", frozen=True, kw_only=True):
    """The next pair of tokens, valid for the present connection too, and a new recovery secret if the agent needs one.
    Times in seconds."""

    access_token: Credential
    expires_in: Count
    refresh_token: Credential
    refresh_expires_in: Count
    recovery_secret: Credential | None = None


class Welcome(Message, tag="welcome", frozen=True, kw_only=True):
    """The answer to `hello`. The agent sends its stream's bytes from `resume_offset` on.

    With `halt` the agent first stops everything that it runs; without `halt`, every halt that it knows is lifted. With
    `cancel_times` the agent uses these timeouts for its escalations from now on. The agent reports the end of each
    command in `recall`, which the server believes to run and the hello does not have: as after a restored backup.

    If `stream_id` is not the stream of the hello, a new stream begins: with the byte that had the offset `begins_at`
    there, for the archive has those before; without `begins_at`, with all bytes that the agent has.
    """

    agent_id: UUID
    name: Name
    epoch: Count
    stream_id: UUID
    resume_offset: OffsetField
    begins_at: OffsetField | None = None
    heartbeat_seconds: HeartbeatSeconds
    heartbeat_timeout_seconds: HeartbeatSeconds
    halt: Halt | None = None
    cancel_times: StopTimeouts | None = None
    recall: Annotated[list[UUID], Meta(max_length=16)] = []
    takes_steps: bool = False
    """Whether the server takes `steps`; an earlier release does not."""
    takes_requests: bool = False
    """Whether the server takes `asked`. For an earlier release, the agent denies at once what would wait for a
    person."""
    takes_work_clock: bool = False
    """Whether the server takes `work_clock`; an earlier release does not."""
    takes_last_lines: bool = False
    """Whether the server takes `last_line`; an earlier release does not."""
    takes_problems: bool = False
    """Whether the server takes `problem`; an earlier release does not, and its agents leave while they have one."""
    version: ShortText | None = None
    """The server's release; an earlier one does not tell."""


class Acknowledged(Message, tag="acknowledged", frozen=True, kw_only=True):
    """The bytes below `offset` are in the archive; the agent may drop them."""

    offset: OffsetField


class Resend(Message, tag="resend", frozen=True, kw_only=True):
    """The archive could not take the bytes from `offset` on: send them again."""

    offset: OffsetField


class Resize(Message, tag="resize", frozen=True, kw_only=True):
    """Set the pseudo-terminal's size."""

    columns: Columns
    rows: Rows


# Browser to server


class Attach(Message, tag="attach", frozen=True, kw_only=True):
    """The first message of a viewer: its access token and, after a reconnect, the first byte that it lacks."""

    access_token: Credential
    stream_id: UUID | None = None
    offset: OffsetField | None = None
    client_id: UUID | None = None
    """Identifies the page, which keeps its control of the terminal if it reconnects soon."""
    times: bool = False
    """Send `times`, too."""


class Token(Message, tag="token", frozen=True, kw_only=True):
    """A newer access token of the same operator, before the last one expires."""

    access_token: Credential


# Server to browser

AttachMode = Literal["exact", "tail", "gap"]


class Attached(Message, tag="attached", frozen=True, kw_only=True):
    """The answer to `attach`: the following bytes start at `offset` of the stream.

    `exact`: they start where the viewer left off. `tail`: the viewer is new, and gets the ring's tail. `gap`: bytes
    between the viewer's last one and `offset` have left the ring. `stream_id` is None while the agent has never been
    connected; `stream_started` follows when it connects.
    """

    stream_id: UUID | None
    mode: AttachMode
    offset: OffsetField
    columns: Columns
    rows: Rows
    modes: str = ""
    """Control sequences that set the terminal modes in force at `offset` (alternate screen, cursor, bracketed paste,
    mouse); empty in mode `exact`. They are no bytes of the stream."""


class Gap(Message, tag="gap", frozen=True, kw_only=True):
    """This viewer was too slow: `missing` bytes left the ring. The next bytes start at `offset`, in these `modes`."""

    offset: OffsetField
    missing: int
    modes: str = ""


class Resized(Message, tag="resized", frozen=True, kw_only=True):
    """The pseudo-terminal has this size from here on."""

    columns: Columns
    rows: Rows


class StreamStarted(Message, tag="stream_started", frozen=True, kw_only=True):
    """The agent began a new stream; the following bytes start at `offset` of it."""

    stream_id: UUID
    offset: OffsetField
    columns: Columns
    rows: Rows


class Times(Message, tag="times", frozen=True, kw_only=True):
    """The bytes from each of `offsets` on were received in the second (Unix time) at the same index of `seconds`, which
    is 0 if it is not known. Of the bytes before `exact_from` it may be too early. Sent before these bytes, to a viewer
    that attached with `times`."""

    offsets: list[int]
    seconds: list[int]
    exact_from: int = 0


AgentMessage = (
    Hello
    | Accepted
    | Used
    | LastLine
    | WorkClockState
    | Ended
    | Steps
    | Steered
    | OpenRequests
    | Asked
    | Withdrawn
    | AnswerTaken
    | CancelStep
    | HaltProgress
    | AgentProblem
    | SizeApplied
    | KeysTaken
    | LookPart
    | Refresh
    | Ping
    | Pong
)
ServerToAgentMessage = (
    Welcome
    | Acknowledged
    | Resend
    | Offer
    | Steer
    | EndRecorded
    | StepsRecorded
    | Answer
    | Cancel
    | Halt
    | HaltLifted
    | Leave
    | Resize
    | Keys
    | Redraw
    | Look
    | Tokens
    | Ping
    | Pong
)
ViewerMessage = Attach | Resize | TakeControl | GrantControl | ReleaseControl | Keys | Token | Ping | Pong
ServerToViewerMessage = Attached | Gap | StreamStarted | Resized | Times | Controlled | KeysTaken | Ping | Pong

_encoder = msgspec.json.Encoder()
_agent_decoder = msgspec.json.Decoder(AgentMessage)
_server_to_agent_decoder = msgspec.json.Decoder(ServerToAgentMessage)
_viewer_decoder = msgspec.json.Decoder(ViewerMessage)
_server_to_viewer_decoder = msgspec.json.Decoder(ServerToViewerMessage)

M = TypeVar("M")


class BadMessage(ValueError):
    """A frame is not a valid message of this direction; the text says what is wrong."""


def encode(message: Message) -> str:
    """Encode a message as a text frame."""
    return _encoder.encode(message).decode()


def encode_for_server(message: Message) -> str:
    """Encode a message of an agent, and check that the server accepts it. Raises BadMessage."""
    try:
        frame = encode(message)
    except Exception as error:
        raise BadMessage(f"it cannot be encoded: {error}") from error
    decode_from_agent(frame)
    return frame


def _decode(decoder: msgspec.json.Decoder[M], frame: str | bytes) -> M:
    try:
        return decode(decoder, frame)
    except InputError as error:
        raise BadMessage(str(error)) from error


def decode_from_agent(frame: str | bytes) -> AgentMessage:
    """Decode a frame that an agent sent. Raises BadMessage."""
    return _decode(_agent_decoder, frame)


def decode_from_server(frame: str | bytes) -> ServerToAgentMessage:
    """Decode a frame that the server sent to an agent. Raises BadMessage."""
    return _decode(_server_to_agent_decoder, frame)


def decode_from_terminal(frame: str | bytes) -> ServerToViewerMessage:
    """Decode a frame that the server sent to a viewer. Raises BadMessage."""
    return _decode(_server_to_viewer_decoder, frame)


def decode_from_viewer(frame: str | bytes) -> ViewerMessage:
    """Decode a frame that a browser sent. Raises BadMessage."""
    return _decode(_viewer_decoder, frame)


def too_big(text: str) -> bool:
    """Whether a text frame has more than `MAX_MESSAGE_BYTES`."""
    return len(text) * 4 > MAX_MESSAGE_BYTES and len(text.encode()) > MAX_MESSAGE_BYTES


def encode_output(offset: int, data: bytes) -> bytes:
    """Encode a binary frame with `data`, whose first byte is at `offset` of the stream."""
    return OUTPUT_HEADER.pack(offset) + data


def decode_output(frame: bytes) -> tuple[int, bytes]:
    """Decode a binary frame to `(offset, data)`. Raises BadMessage."""
    if len(frame) <= OUTPUT_HEADER.size:
        raise BadMessage("an output frame needs an 8-byte offset and at least one byte")
    (offset,) = OUTPUT_HEADER.unpack_from(frame)
    if offset > 2**63 - 1 - len(frame):
        raise BadMessage("the offset is out of range")
    return offset, frame[OUTPUT_HEADER.size :]
