"""Faults of the agent's own code: each ends one command in words, and the next one runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from agent.conftest import TESTS, sleeping, until
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.attached import no_file

from onsembl.agent.drivers.attached_files import AttachedFile, AttachedFiles
from onsembl.agent.drivers.claude.translator import ClaudeTranslator
from onsembl.agent.link.journal import Journal
from onsembl.agent.process.process import Process, ProcessContext
from onsembl.agent.rendering.turn import TurnRenderer
from onsembl.agent.runner import Runner
from onsembl.agent.startup import StartupScript
from onsembl.protocol.limits import LimitName
from onsembl.protocol.messages import Ended, Message, Offer, decode_from_agent, encode
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.protocol.turn_messages import TurnReport
from onsembl.protocol.usage import Usage
from onsembl.protocol.work_clock import WorkClock

QUICK = StopTimeouts(interrupt=0.05, sigint=0.05, sigterm=5.0)


class Fault(Exception):
    """The error of each place."""


class FaultyDriver:
    """Runs command lines on pipes, and fails at one place."""

    def __init__(self) -> None:
        self.place = ""
        self.value: object = None
        """What `usage`, `exceeded` and `finish` return instead of a value that is valid; None for an error."""
        self.reached: set[str] = set()
        self.output = b""

    def at(self, place: str) -> object:
        self.reached.add(place)
        if place == self.place and self.value is None:
            raise Fault(place)
        return self.value if place == self.place else None

    def start(self, offer: Offer, context: ProcessContext, files: Sequence[AttachedFile] = ()) -> FaultyRun:
        self.at("start")
        run = FaultyRun(self)
        run.process = Process.on_pipes(
            ["/bin/sh", "-c", offer.text], str(offer.command_id), context, run.receive, run.receive_error
        )
        run.process.end_input()
        self.at("started")
        return run


class FaultyRun:
    """A run of the FaultyDriver."""

    process: Process

    def __init__(self, driver: FaultyDriver) -> None:
        self._driver = driver
        self.progressed = asyncio.Event()
        self.last_line = ""
        self.clock = WorkClock(asyncio.get_running_loop().time())

    def receive(self, data: bytes) -> None:
        self._driver.at("output")
        self._driver.output += data
        self.progressed.set()

    def receive_error(self, data: bytes) -> None:
        self._driver.at("error output")

    def interrupt(self) -> None:
        self._driver.at("interrupt")

    def withdraw_requests(self, reason: str) -> None:
        self._driver.at("withdraw")

    def finish(self) -> str | None:
        return self._driver.at("finish")  # type: ignore[return-value]

    @property
    def usage(self) -> Usage | None:
        return self._driver.at("usage")  # type: ignore[return-value]

    @property
    def turn(self) -> TurnReport | None:
        return self._driver.at("turn")  # type: ignore[return-value]

    @property
    def completed(self) -> bool:
        return bool(self._driver.at("completed"))

    @property
    def exceeded(self) -> LimitName | None:
        return self._driver.at("exceeded")  # type: ignore[return-value]


class Bench:
    """A runner with a faulty driver; its reports go through the wire's own types."""

    def __init__(self, folder: Path, context: ProcessContext) -> None:
        self.driver = FaultyDriver()
        self.journal = Journal(folder)
        self.ends: dict[UUID, Ended] = {}
        self.refused: type[Message] | None = None
        startup = StartupScript(None, "startup-of-this-test", context)
        self.files = AttachedFiles(folder / "attachments", no_file)
        self.runner = Runner(self.driver, context, self.journal, QUICK, self._send, startup, self.files)

    def _send(self, message: Message) -> None:
        if type(message) is self.refused:
            raise Fault("send")
        sent = decode_from_agent(encode(message))
        if isinstance(sent, Ended):
            self.ends[sent.command_id] = sent

    async def end(self, text: str) -> Ended:
        """Run a command; return its end, as the next hello has it."""
        command_id = uuid4()
        self.runner.offer(Offer(command_id=command_id, text=text))
        return await self.ended(command_id)

    async def ended(self, command_id: UUID) -> Ended:
        await until(lambda: command_id in self.journal.ended or command_id in self.ends, "the end")
        assert command_id not in self.journal.running
        return self.ends.get(command_id) or self.journal.ended[command_id]


@pytest.fixture
async def bench(tmp_path: Path, context: ProcessContext) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, context)
    yield bench
    await bench.runner.shut_down()
    bench.journal.close()


ENDLESS = ("started", "output", "error output", "usage")
"""Places at which the program would run on for ever if the fault did not stop it."""
INVALID: list[tuple[str, object]] = [
    ("usage", Usage(model="\ud800")),
    ("usage", "no usage"),
    ("exceeded", "no limit"),
    ("turn", "no report"),
    ("finish", 7),
]
PLACES: list[tuple[str, object]] = [
    *((place, None) for place in ("start", "started", "output", "error output", "withdraw", "finish")),
    *((place, None) for place in ("usage", "completed", "exceeded")),
    *INVALID,
]


async def test_a_fault_of_the_driver_fails_its_command_only(bench, nap, subtests):
    """For each call into the driver: none of the program's processes is left, and the next command runs."""
    for place, value in PLACES:
        with subtests.test(place=place, value=value):
            bench.driver.place, bench.driver.value = place, value
            text = f"echo out; echo bad >&2; sleep {nap}" if place in ENDLESS and value is None else "echo out; exit 3"
            end = await bench.end(text)
            assert place in bench.driver.reached
            assert sleeping(nap) == []
            assert end.outcome == "failed"
            assert "Internal error of the agent" in (end.error or "")
            if value is None:
                assert f"Fault: {place}" in (end.error or "")
            bench.driver.place = ""
            assert (await bench.end("echo fine")).outcome == "succeeded"


async def test_a_driver_that_cannot_interrupt_is_stopped_by_signals(bench, nap):
    """The escalation goes on, and `cancelled` means as always that no process is left."""
    bench.driver.place = "interrupt"
    command_id = uuid4()
    bench.runner.offer(Offer(command_id=command_id, text=f"sleep {nap}; sleep {nap}"))
    await until(lambda: sleeping(nap), "the sleeper")
    bench.runner.cancel(command_id)
    end = await bench.ended(command_id)
    assert sleeping(nap) == []
    assert (end.outcome, [step.step for step in end.steps][:2]) == ("cancelled", ["interrupt", "sigint"])


@pytest.mark.parametrize("broken", ["accepted", "end", "send", "escalate", "drain", "terminal"])
async def test_a_fault_beside_the_driver_ends_the_command(bench, monkeypatch, nap, broken):
    """The journal, a report, the stop of the processes, the last output and the terminal's own lines."""

    def fails(*_: object, **__: object) -> None:
        raise Fault(broken)

    with monkeypatch.context() as patch:
        if broken in ("accepted", "end"):
            patch.setattr(bench.journal, broken, _keeping(bench.journal, broken, fails))
        elif broken == "send":
            patch.setattr(bench, "refused", Ended)
        elif broken == "escalate":
            patch.setattr("onsembl.agent.runner.escalate", _once(fails, "onsembl.agent.runner.escalate"))
        elif broken == "drain":
            patch.setattr(Process, "drain", _once(fails, Process.drain))
        else:
            patch.setattr(bench.runner._terminal, "write_line", fails)
        end = await bench.end(f"sleep {nap} & echo out")
        assert sleeping(nap) == []
        assert end.outcome == ("succeeded" if broken in ("end", "send") else "failed")
    assert (await bench.end("echo fine")).outcome == "succeeded"


def _keeping(journal: Journal, name: str, fails: Callable[..., None]) -> Callable[..., None]:
    """The journal's method, which does its work in memory before it fails, as it does on a broken disk."""
    if name == "accepted":
        return fails

    def end(report: Ended) -> None:
        journal.running.pop(report.command_id, None)
        journal.ended[report.command_id] = report
        fails()

    return end


def _once(fails: Callable[..., None], usual: object) -> Callable[..., object]:
    """Fails at the first call, and is the usual function from then on."""
    from onsembl.agent import runner

    call, calls = (runner.escalate if isinstance(usual, str) else usual), []

    def replaced(*values: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            fails()
        return call(*values, **named)  # type: ignore[operator]

    return replaced


RECORDED = [
    line
    for path in sorted((TESTS / "agent" / "recordings").glob("claude-*.jsonl"))
    for line in path.read_bytes().splitlines()
    if len(line) < 3000
]
FIELDS = ["type", "subtype", "message", "content", "event", "delta", "text", "id", "name", "input", "usage", "request"]
WORDS = ["assistant", "user", "result", "system", "stream_event", "control_request", "tool_use", "text", "init"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner, max_size=6),
    max_leaves=10,
)


def nested(depth: int) -> bytes:
    """A line with arguments of a tool that are nested this deeply."""
    inner = b'{"x":' * depth + b"1" + b"}" * depth
    return b'{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","input":%s}]}}' % inner


hostile_lines = (
    st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.integers(0, 3000).map(nested)
    | st.tuples(st.sampled_from(RECORDED), st.integers(0, 3000), st.binary(max_size=4)).map(
        lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] :]
    )
)


@example(data=b'{"a":' * 1500, size=64)
@example(data=nested(900), size=2**20)
@settings(max_examples=60, deadline=None)
@given(data=st.lists(hostile_lines, max_size=4).map(b"\n".join), size=st.integers(1, 4096))
def test_no_line_of_a_cli_is_too_strange(data, size):
    """A line that is cut, nested, binary or of unexpected types is shown or passed over, also at the end."""
    translator, renderer = ClaudeTranslator("hello", uuid4(), "ask"), TurnRenderer(lambda: 80)
    for at in range(0, len(data), size):
        "".join(map(renderer.render, translator.receive(data[at : at + size])))
    "".join(map(renderer.render, translator.end()))
    renderer.close().encode(errors="replace")
    assert isinstance(translator.usage, Usage | None)
    assert isinstance(translator.take_input(), bytes)
