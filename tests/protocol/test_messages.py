"""Messages are encoded and decoded unchanged, and every other frame is rejected."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import get_args
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol import messages as m
from onsembl.protocol.attention_messages import Answers, PermissionBody, QuestionAnswer, digest_of
from onsembl.protocol.close_codes import CloseCode, is_permanent
from onsembl.protocol.files import FileRules
from onsembl.protocol.limits import CommandLimits
from onsembl.protocol.states import ACTIVE_STATES, FINAL_STATES, TRANSITIONS, CommandState, Role
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.protocol.turn_steps import Step

ID = UUID("b7d6a1f0-0000-4000-8000-000000000001")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ACCEPTED = m.Accepted(command_id=ID, started_at=NOW, output_start=0)
CLOCK = m.WorkClockState(command_id=ID, stands_still=True, stood_still_seconds=2.5)
USED = m.Used(command_id=ID, usage=m.Usage(input_tokens=3))
ENDED = m.Ended(command_id=ID, outcome="failed", ended_at=NOW, exit_code=1, usage=m.Usage(input_tokens=3))
PERMISSION = PermissionBody(
    tool="Bash",
    tool_kind="execute",
    input='{"command":"rm x"}',
    names=["Bash"],
    said=["rm x"],
    parts=[["rm x"]],
    rules=["Bash(rm x)"],
)

FROM_AGENT = [
    m.Hello(
        version="1",
        kind="shell",
        mode="exec",
        host="h",
        platform="p",
        columns=80,
        rows=24,
        stream=m.StreamTail(id=ID, start=1, end=2),
        running=[ACCEPTED],
        ended=[ENDED],
    ),
    ACCEPTED,
    USED,
    m.LastLine(command_id=ID, text="12 of 40"),
    CLOCK,
    ENDED,
    m.Steps(
        command_id=ID,
        through=3,
        steps=[
            Step(
                number=2,
                revision=1,
                parent=1,
                kind="tool",
                name="Bash",
                tool_kind="execute",
                title="ls",
                status="failed",
                text="{}",
                result="no",
                denied=True,
                started_at=NOW,
                output_start=0,
                output_end=9,
            )
        ],
    ),
    m.Steered(command_id=ID, steer_id=ID, step=3),
    m.OpenRequests(requests=[ID]),
    m.Asked(
        request_id=ID,
        command_id=ID,
        title="rm x",
        body=PERMISSION,
        digest=digest_of(PERMISSION),
        step=2,
        asked_at=NOW,
    ),
    m.Withdrawn(request_id=ID, command_id=ID, reason="why"),
    m.AnswerTaken(request_id=ID, digest=digest_of(PERMISSION), fate="late"),
    m.CancelStep(command_id=ID, step="sigterm", at=NOW, processes_left=3),
    m.HaltProgress(halt_id=ID, state="dying", at=NOW, processes_left=1, pids=[5]),
    m.AgentProblem(problem="full", number=1),
    m.SizeApplied(columns=80, rows=24, offset=7),
    m.KeysTaken(client_id=ID, seq=2, refused="nothing_runs"),
    m.Refresh(refresh_token="r"),
    m.LookPart(request_id=ID, number=1, text="{}", last=True),
    m.Ping(),
    m.Pong(),
]
FROM_SERVER = [
    m.Welcome(
        agent_id=ID,
        name="one",
        epoch=1,
        stream_id=ID,
        resume_offset=5,
        heartbeat_seconds=30,
        heartbeat_timeout_seconds=10,
        cancel_times=StopTimeouts(interrupt=2),
    ),
    m.Acknowledged(offset=9),
    m.Resend(offset=9),
    m.Offer(command_id=ID, text="ls", limits=CommandLimits(work_seconds=60, tokens=5)),
    m.Steer(command_id=ID, steer_id=ID, text="and this"),
    m.EndRecorded(command_id=ID),
    m.StepsRecorded(command_id=ID, through=3),
    m.Answer(
        request_id=ID,
        command_id=ID,
        digest=digest_of(PERMISSION),
        decision=Answers(answers=[QuestionAnswer(id="1", answers=["yes"])]),
        by="anna",
    ),
    m.Cancel(command_id=ID, reason="why", limit="tokens"),
    m.Halt(halt_id=ID, number=3, seconds=2.0, reason="why"),
    m.HaltLifted(number=3),
    m.Leave(restart=True),
    m.Tokens(access_token="a", expires_in=900, refresh_token="r", refresh_expires_in=3600),
    m.Resize(columns=80, rows=24),
    m.Keys(client_id=ID, seq=2, text="é\r"),
    m.Redraw(),
    m.Look(request_id=ID, path="src/a.py", rules=FileRules(roots=["src"], viewers=True)),
    m.Ping(),
    m.Pong(),
]
FROM_VIEWER = [
    m.Attach(access_token="t", stream_id=ID, offset=3),
    m.Resize(columns=80, rows=24),
    m.TakeControl(client_id=ID, from_another=True),
    m.GrantControl(to=ID),
    m.ReleaseControl(),
    m.Keys(client_id=ID, seq=1, interrupt=True),
    m.Token(access_token="t"),
    m.Ping(),
    m.Pong(),
]
DECODERS = [
    (m.decode_from_agent, m.AgentMessage, FROM_AGENT),
    (m.decode_from_server, m.ServerToAgentMessage, FROM_SERVER),
    (m.decode_from_viewer, m.ViewerMessage, FROM_VIEWER),
]


@pytest.mark.parametrize(("decode", "union", "examples"), DECODERS)
def test_every_message_survives_the_wire(decode, union, examples):
    """Each message type of a direction is decoded to the message that was encoded."""
    assert {type(example) for example in examples} == set(get_args(union))
    for example in examples:
        assert decode(m.encode(example)) == example


@pytest.mark.parametrize(("decode", "union", "examples"), DECODERS)
def test_messages_of_another_direction_are_refused(decode, union, examples):
    """A message type of another direction is rejected."""
    others = {type(x): x for x in [*FROM_AGENT, *FROM_SERVER, *FROM_VIEWER]}
    for kind, example in others.items():
        if kind not in get_args(union):
            with pytest.raises(m.BadMessage):
                decode(m.encode(example))


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"type":"nothing"}',
        '{"type":"resized","columns":1,"rows":24}',
        '{"type":"resized","columns":80,"rows":1e9}',
        '{"type":"resized","columns":80.5,"rows":24}',
        '{"type":"resized","columns":NaN,"rows":24}',
        '{"type":"accepted","command_id":"x","started_at":"2026-01-01T00:00:00Z","output_start":0}',
        '{"type":"accepted","command_id":"b7d6a1f0-0000-4000-8000-000000000001","started_at":"?","output_start":0}',
        '{"type":"cancel_step","command_id":"b7d6a1f0-0000-4000-8000-000000000001","step":"nuke"}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_message_is_refused(frame):
    """Invalid JSON, a wrong type and a number out of range all raise BadMessage."""
    with pytest.raises(m.BadMessage):
        m.decode_from_agent(frame)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_no_frame_does_worse_than_be_refused(frame):
    """Decoding any frame returns a message or raises BadMessage."""
    for decode, _, _ in DECODERS:
        with suppress(m.BadMessage):
            assert isinstance(decode(frame), m.Message)


@given(st.integers(0, 2**62), st.binary(min_size=1, max_size=100))
def test_output_frames_carry_offset_and_bytes(offset, data):
    """An output frame has a header of eight bytes and the unchanged output."""
    assert m.decode_output(m.encode_output(offset, data)) == (offset, data)


@pytest.mark.parametrize("frame", [b"", b"1234567", b"12345678", b"\xff" * 20, (2**63 - 1).to_bytes(8) + b"x"])
def test_bad_output_frames_are_refused(frame):
    """An output frame that is too short or passes the largest offset is rejected."""
    with pytest.raises(m.BadMessage):
        m.decode_output(frame)


def test_the_docstring_names_every_message():
    """The table in the module's docstring has every message."""
    tags = {
        msgspec.inspect.type_info(kind).tag
        for union in (m.AgentMessage, m.ServerToAgentMessage, m.ViewerMessage, m.ServerToViewerMessage)
        for kind in get_args(union)
    }
    assert [tag for tag in tags if str(tag) not in (m.__doc__ or "")] == []


def test_final_states_are_final():
    """A final state has no next state, every other state has one, and every state is reachable from queued."""
    for state in CommandState:
        assert state.is_final == (not TRANSITIONS[state])
        assert not (state.is_final and state.is_active)
    reached, pending = {CommandState.QUEUED}, [CommandState.QUEUED]
    while pending:
        for following in TRANSITIONS[pending.pop()] - reached:
            reached.add(following)
            pending.append(following)
    assert reached == set(CommandState)
    assert FINAL_STATES | ACTIVE_STATES | {CommandState.QUEUED} == set(CommandState)


def test_roles_include_those_below():
    """An admin has the rights of an operator, who has the rights of a viewer."""
    assert [[a.includes(b) for b in Role] for a in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_close_codes_say_whether_to_come_back():
    """A revocation is permanent; a restart, an expired token and an unknown code are temporary."""
    assert is_permanent(CloseCode.REVOKED) and CloseCode.FORBIDDEN.is_permanent
    assert not is_permanent(CloseCode.GOING_AWAY) and not is_permanent(CloseCode.TOKEN_EXPIRED)
    assert not is_permanent(1006)


def test_a_frame_is_measured_in_bytes():
    """A text of three-byte characters is too big for a frame although it has fewer characters than the limit."""
    assert not m.too_big("x" * m.MAX_MESSAGE_BYTES)
    assert m.too_big("x" * (m.MAX_MESSAGE_BYTES + 1))
    assert m.too_big("語" * 400_000)
    assert not m.too_big("語" * 300_000)
