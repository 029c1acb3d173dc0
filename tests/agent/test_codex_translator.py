"""The protocol of Codex's app-server, as recorded from version 0.171, and with unknown or invalid messages."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.decisions import UNASKED, decided

from onsembl.agent.drivers.codex import items
from onsembl.agent.drivers.codex.translator import CodexTranslator
from onsembl.protocol.attention_messages import Allow, Answers, Decision, Deny, FilledForm, QuestionAnswer
from onsembl.protocol.decisions import problem_with
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.request_events import RequestOpened, RequestWithdrawn
from onsembl.protocol.tool_rules import NO_RULES, ToolRules
from onsembl.protocol.turn_events import (
    Diff,
    MessageChunk,
    Notice,
    PermissionDenied,
    Plan,
    PlanEntry,
    Steered,
    ToolCall,
    ToolCallEnded,
    TurnEnded,
    TurnEvent,
    TurnStarted,
)
from onsembl.protocol.turn_messages import Denial
from onsembl.protocol.usage import usage_of
from onsembl.protocol.vendor_limits import VendorLimit

RECORDINGS = Path(__file__).parent / "recordings"
NAMES = sorted(path.stem for path in RECORDINGS.glob("codex-*.jsonl"))
FOLDER = "/home/dev/project"
THREAD = {"thread": {"id": "t1"}, "model": "a-model"}


def translator(
    known: str | None = None, fork_of: str | None = None, mode: PermissionMode = "ask", **others: object
) -> CodexTranslator:
    begun: list[str] = []
    run = CodexTranslator(
        "the prompt",
        folder=FOLDER,
        known=known,
        fork_of=fork_of,
        mode=mode,
        model="gpt-x",
        effort="max",
        on_conversation=begun.append,
        **others,
    )
    run.begun = begun
    return run


class Server:
    """A translator, and the app-server at its other end: `answer` answers its last request of a method."""

    def __init__(self, run: CodexTranslator) -> None:
        self.run = run
        self.events: list[TurnEvent] = []
        self.sent: list[dict] = []
        self.decision: Decision | None = UNASKED
        """The answer to each request; None leaves it open."""
        self.read()

    def read(self) -> None:
        self.sent += [json.loads(line) for line in self.run.take_input().splitlines()]

    def say(self, *messages: object) -> None:
        for message in messages:
            events = self.run.receive(json.dumps(message).encode() + b"\n")
            self.events += decided(self.run, events, self.decision) if self.decision is not None else events
            self.read()

    def tell(self, method: str, **params: object) -> None:
        self.say({"method": method, "params": {"threadId": "t1", "turnId": "u1", **params}})

    def asked(self, method: str) -> dict:
        return [line for line in self.sent if line.get("method") == method][-1]

    def answer(self, method: str, result: dict | None = None, error: dict | None = None) -> None:
        told = {"result": result} if error is None else {"error": error}
        self.say({"id": self.asked(method)["id"], **told})

    def open(self) -> Server:
        """All until the turn runs."""
        self.answer("initialize", {"userAgent": "codex/0"})
        self.answer("thread/start", THREAD)
        self.answer("turn/start", {"turn": {"id": "u1"}})
        self.item("started", type="userMessage", id="m0", content=[{"type": "text", "text": "the prompt"}])
        return self

    def item(self, what: str, **item: object) -> None:
        self.tell(f"item/{what}", item=item)

    def complete(self, status: str = "completed", **turn: object) -> None:
        self.tell("turn/completed", turn={"id": "u1", "status": status, **turn})

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


def turns(name: str) -> Iterator[tuple[dict, dict, list[dict]]]:
    """Of each turn of a recording: the answer that opened the thread, that to its start, and all that came after it."""
    lines = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]
    said = [(line["dir"], line["msg"]) for line in lines if line["dir"] in ("in", "out")]
    methods = {msg["id"]: msg["method"] for way, msg in said if way == "in" and "method" in msg and "id" in msg}
    answers = {msg["id"]: msg for way, msg in said if way == "out" and "method" not in msg}
    opened = next(answers[one] for one, method in methods.items() if method in ("thread/start", "thread/resume"))
    for number, method in methods.items():
        if method == "turn/start" and "result" in answers.get(number, {}):
            after = said[said.index(("out", answers[number])) :]
            yield opened, answers[number], [msg for way, msg in after if way == "out" and "method" in msg]


def replayed(name: str, mode: PermissionMode = "ask") -> Iterator[Server]:
    """Each turn of a recording, until its own end."""
    for opened, started, after in turns(name):
        server = Server(translator(mode=mode))
        server.answer("initialize", {})
        server.answer("thread/start", opened["result"])
        server.answer("turn/start", started["result"])
        for message in after:
            server.say(message)
            if server.run.idle:
                break
        if server.run.outcome == "interrupted":
            server.answer("thread/backgroundTerminals/clean", {})
        yield server


@pytest.mark.parametrize("name", NAMES)
def test_recorded_turns(name, subtests):
    """Each recorded turn ends once, with an outcome; each of its tool calls is shown once and has one result."""
    for number, server in enumerate(replayed(name)):
        with subtests.test(turn=number):
            assert server.run.unknown == 0
            assert [event for event in server.events if isinstance(event, TurnEnded)] == server.events[-1:]
            assert server.run.input_complete and server.run.outcome is not None
            begun = [event.id for event in server.of(ToolCall)]
            assert len(begun) == len(set(begun))
            assert sorted(begun) == sorted(event.id for event in server.of(ToolCallEnded))


def test_a_recorded_answer():
    """Text, tokens of this turn, context, the thread's own id."""
    server = next(replayed("codex-text"))
    assert "".join(event.text for event in server.of(MessageChunk)) == "Scripted answer: hello codex"
    assert server.run.usage == usage_of({"scripted": (100, 7, 0, 0)}, turns=1, model="scripted")
    assert (server.run.report.context_tokens, server.run.report.context_window) == (107, 258400)
    assert server.run.begun == ["01a21dc9-6ea4-7302-bb7e-30e256dbf1cb"]
    assert server.asked("turn/start")["params"]["effort"] == "xhigh"
    start = server.asked("thread/start")["params"]
    assert (start["approvalPolicy"], start["approvalsReviewer"], start["sandbox"], start["model"]) == (
        *("on-request", "user", "read-only", "gpt-x"),
    )
    assert server.of(TurnStarted)[0].permission_mode == "read-only, on-request"


def test_recorded_approvals_are_declined():
    """The turn goes on; the call is named without its shell, and its result is failed."""
    server = list(replayed("codex-approvals"))[1]
    assert server.of(ToolCall)[0].title == "touch c2b"
    assert server.run.report.denials == [Denial(tool="shell", title="touch c2b")]
    assert {"id": 1, "result": {"decision": "decline"}} in server.sent
    assert server.of(ToolCallEnded)[0].status == "failed"
    assert server.run.outcome == "completed"


def test_recorded_changes_of_files():
    """A new file is its text, an update is its change; only the mode that accepts edits allows them."""
    declined, *_ = replayed("codex-patch")
    path = f"{FOLDER}/patched.txt"
    assert declined.of(ToolCall)[0].diffs == [Diff(path=path, old=None, new="one\ntwo\n")]
    assert len(declined.of(PermissionDenied)) == 1
    accepted = list(replayed("codex-patch", "accept_edits"))
    assert not [event for server in accepted for event in server.of(PermissionDenied)]
    updates = [diff for server in accepted for call in server.of(ToolCall) for diff in call.diffs if diff.old]
    assert Diff(path=path, old="one\ntwo\n", new="one\nthree\n") in updates


@pytest.mark.parametrize(
    ("path", "root", "decision"),
    [
        (f"{FOLDER}/a/b.txt", None, "accept"),
        (f"{FOLDER}/../x", None, "decline"),
        ("/etc/passwd", None, "decline"),
        (f"{FOLDER}x/a", None, "decline"),
        (f"{FOLDER}/a", "/", "decline"),
    ],
)
def test_only_edits_in_the_folder_are_accepted(path, root, decision):
    """In the mode that accepts edits; a right to a whole folder is not given."""
    server = Server(translator(mode="accept_edits")).open()
    server.item("started", type="fileChange", id="c", changes=[{"path": path, "kind": {"type": "add"}, "diff": "x"}])
    params = {"threadId": "t1", "itemId": "c", "grantRoot": root}
    server.say({"id": 0, "method": "item/fileChange/requestApproval", "params": params})
    server.say({"id": 1, "method": "item/commandExecution/requestApproval", "params": {"itemId": "d", "command": "x"}})
    assert [line["result"]["decision"] for line in server.sent if "result" in line] == [decision, "decline"]


@pytest.mark.parametrize(("mode", "decision"), [("ask", "decline"), ("accept_edits", "accept")])
def test_a_recorded_subagent(mode, decision):
    """Its task, calls and messages are below the call that began it; its requests are answered as those of the turn."""
    (server,) = replayed("codex-subagent", mode)
    spawned, waited = [call for call in server.of(ToolCall) if call.name == "subagent"]
    below = [event for event in server.events if event.parent == spawned.id]
    assert [event.text for event in below if isinstance(event, MessageChunk)][-1] == "Done inside."
    assert [event.title for event in below if isinstance(event, ToolCall)] == ["echo inner", f"{FOLDER}/inner.txt"]
    assert [event.status for event in below if isinstance(event, ToolCallEnded)] == ["completed", "completed"]
    denied = [event for event in below if isinstance(event, PermissionDenied)]
    assert len(denied) == (decision == "decline")
    decisions = [line["result"]["decision"] for line in server.sent if "decision" in line.get("result", {})]
    assert decisions == [decision]
    assert [event.text for event in server.of(ToolCallEnded) if event.id == waited.id] == ["Done inside."]


def test_a_subagents_first_call_may_come_before_its_thread_is_named():
    """It belongs to the subagent that is being begun. What an unknown thread does is shown beside the turn's own."""
    server = Server(translator()).open()
    server.tell("item/completed", threadId="t9", item={"type": "commandExecution", "id": "x", "command": "id"})
    server.item("started", type="collabAgentToolCall", id="s", tool="spawnAgent", receiverThreadIds=[], prompt="look")
    server.tell("item/started", threadId="t2", item={"type": "commandExecution", "id": "c", "command": "ls"})
    server.item("completed", type="collabAgentToolCall", id="s", tool="spawnAgent", receiverThreadIds=["t2"])
    server.tell("item/completed", threadId="t2", item={"type": "agentMessage", "id": "m", "text": "Seen."})
    request = {"threadId": "t2", "itemId": "c", "command": "ls"}
    server.decision = None
    server.say({"id": 0, "method": "item/commandExecution/requestApproval", "params": request})
    server.tell("serverRequest/resolved", threadId="t2", requestId=0)
    assert [(call.title, call.parent) for call in server.of(ToolCall)] == [("id", None), ("look", None), ("ls", "s")]
    assert [(event.text, event.parent) for event in server.of(MessageChunk)] == [("Seen.", "s")]
    assert [event.parent for event in server.of(RequestOpened)] == ["s"]
    assert len(server.of(RequestWithdrawn)) == 1
    server.complete()
    assert {event.id for event in server.of(ToolCallEnded)} == {"x", "s", "c"}


def test_a_configuration_that_codex_does_not_use_is_told():
    """With what is wrong in it; a warning about the machine is not of this turn."""
    server = Server(translator()).open()
    details = "url is not supported for stdio\nin `mcp_servers.x`"
    server.say({"method": "configWarning", "params": {"summary": "Using defaults.", "details": details}})
    server.say({"method": "configWarning", "params": {"summary": "No bubblewrap.", "details": None}})
    assert [notice.text for notice in server.of(Notice)] == [f"Using defaults. {details}"]


def test_recorded_errors_and_retries():
    """A reconnect is a notice; an error of the model and a limit of the plan end the turn in words."""
    servers = list(replayed("codex-resume-errors"))
    errors = [server.run.error or "" for server in servers]
    assert any("scripted failure" in error for error in errors)
    assert any("usage limit" in error for error in errors)
    retries = [event.text for server in servers for event in server.of(Notice) if event.kind == "retry"]
    assert "Reconnecting... 1/5" in retries


def test_a_text_that_the_turn_takes():
    """It is taken when Codex shows it as a message; one that comes too late is not, and holds nothing."""
    server = Server(translator()).open()
    taken, late = uuid4(), uuid4()
    server.run.steer(taken, "be brief")
    server.read()
    told = server.asked("turn/steer")["params"]
    assert (told["expectedTurnId"], told["input"]) == ("u1", [{"type": "text", "text": "be brief"}])
    server.answer("turn/steer", {"turnId": "u1"})
    assert server.of(Steered) == []
    server.item("started", type="userMessage", id="m1", content=[{"type": "text", "text": "be brief"}])
    assert server.of(Steered) == [Steered(id=taken, text="be brief")]
    server.run.steer(late, "too late")
    server.read()
    server.complete()
    assert server.run.idle and not server.run.input_complete
    server.answer("turn/steer", error={"code": -32600, "message": "no active turn to steer"})
    assert server.run.input_complete and len(server.of(Steered)) == 1


def test_a_text_before_the_turn_waits_for_it():
    """One that was accepted and never shown is not taken."""
    server = Server(translator())
    server.answer("initialize", {})
    server.run.steer(UUID(int=1), "early")
    server.answer("thread/start", THREAD)
    assert "turn/steer" not in [line.get("method") for line in server.sent]
    server.answer("turn/start", {"turn": {"id": "u1"}})
    server.answer("turn/steer", {"turnId": "u1"})
    server.complete()
    assert server.run.input_complete and server.of(Steered) == []


@pytest.mark.parametrize("moment", ["before the thread", "before the turn's id", "in the turn"])
def test_an_interrupt(moment):
    """It ends the turn at once while there is no prompt; else Codex is asked, as soon as the turn's id is known."""
    server = Server(translator())
    server.answer("initialize", {})
    if moment == "before the thread":
        server.run.interrupt()
        server.answer("thread/start", THREAD)
        assert "turn/start" not in [line.get("method") for line in server.sent]
        assert server.run.input_complete and [type(event) for event in server.run.end()] == [TurnEnded]
    else:
        server.answer("thread/start", THREAD)
        if moment == "before the turn's id":
            server.run.interrupt()
        server.answer("turn/start", {"turn": {"id": "u1"}})
        if moment == "in the turn":
            server.run.interrupt()
            server.read()
        assert server.asked("turn/interrupt")["params"] == {"threadId": "t1", "turnId": "u1"}
        server.complete("interrupted")
    assert server.run.outcome == "interrupted"


@pytest.mark.parametrize("answer", [{"result": {}}, {"error": {"code": -32601, "message": "no such method"}}])
def test_an_interrupt_ends_the_commands_of_the_turn(answer):
    """Codex leaves them running. Its input stays open until it has ended them, or does not know how to."""
    server = Server(translator()).open()
    server.run.interrupt()
    server.read()
    server.complete("interrupted")
    assert server.run.idle and not server.run.input_complete
    assert server.asked("thread/backgroundTerminals/clean")["params"] == {"threadId": "t1"}
    server.answer("thread/backgroundTerminals/clean", **answer)
    assert server.run.input_complete and server.run.outcome == "interrupted"
    assert server.run.report.conversation == "t1"
    assert len(server.of(TurnEnded)) == 1


@pytest.mark.parametrize(
    ("known", "fork_of", "method", "forgotten"),
    [("t0", None, "thread/resume", True), (None, "t0", "thread/fork", False)],
)
def test_a_thread_that_codex_does_not_know(known, fork_of, method, forgotten):
    """The turn ends in words; a conversation that cannot be continued is forgotten."""
    server = Server(translator(known, fork_of))
    server.answer("initialize", {})
    assert server.asked(method)["params"]["threadId"] == "t0"
    server.answer(method, error={"code": -32600, "message": "no rollout found for thread id t0"})
    assert (server.run.report.forgotten, server.run.input_complete) == (forgotten, True)
    assert "Begin a new one" in (server.run.error or "")


def test_a_copy_has_an_id_of_its_own():
    """A thread that goes on keeps its id."""
    server = Server(translator(fork_of="t0"))
    server.answer("initialize", {})
    server.answer("thread/fork", THREAD)
    assert server.run.begun == ["t1"]
    server = Server(translator(known="t1"))
    server.answer("initialize", {})
    server.answer("thread/resume", THREAD)
    assert server.run.begun == []


def test_tokens_of_an_earlier_turn_do_not_count():
    """Codex tells those of the turn before when a thread is resumed."""
    server = Server(translator()).open()
    last = {"inputTokens": 10, "outputTokens": 2, "cachedInputTokens": 3, "cacheWriteInputTokens": 1, "totalTokens": 12}
    server.tell("thread/tokenUsage/updated", turnId="u0", tokenUsage={"last": last, "modelContextWindow": 100})
    assert server.run.usage is None
    for _ in range(2):
        server.tell("thread/tokenUsage/updated", tokenUsage={"last": last, "modelContextWindow": 100})
    assert server.run.usage == usage_of({"a-model": (12, 4, 6, 2)}, model="a-model", turns=None)
    assert (server.run.report.context_tokens, server.run.report.context_window) == (12, 100)


def test_each_model_and_each_subagent_counts():
    """A turn that Codex moves to another model has both; the thread of a subagent counts, another client's does not."""
    server = Server(translator()).open()
    last = {"inputTokens": 10, "outputTokens": 2, "cachedInputTokens": 4, "cacheWriteInputTokens": 0}
    server.tell("thread/tokenUsage/updated", tokenUsage={"last": last})
    server.tell("model/rerouted", toModel="other")
    server.tell("thread/tokenUsage/updated", tokenUsage={"last": last})
    server.tell("thread/tokenUsage/updated", threadId="t9", turnId="u9", tokenUsage={"last": last})
    parts = {"a-model": (6, 2, 4, 0), "other": (12, 4, 8, 0)}
    assert server.run.usage == usage_of(parts, model="a-model", turns=None)


def test_plans_thoughts_and_tools_are_shown():
    """Each kind of message becomes its event; one that is not known is counted, one of another thread is not shown."""
    server = Server(translator()).open()
    server.tell("item/reasoning/summaryTextDelta", itemId="r", delta="hm")
    server.tell("turn/plan/updated", plan=[{"step": "one", "status": "inProgress"}, {"step": "two", "status": "x"}])
    server.item("started", type="mcpToolCall", id="c", server="s", tool="t", arguments={"a": 1})
    content = {"content": [{"type": "text", "text": "out"}]}
    server.item("completed", type="mcpToolCall", id="c", server="s", tool="t", status="completed", result=content)
    server.item("completed", type="webSearch", id="w", query="a query", status="completed")
    server.item("completed", type="agentMessage", id="m", text="the whole")
    server.item("completed", type="contextCompaction", id="x")
    server.tell("account/rateLimits/updated", threadId=None, rateLimits={"rateLimitReachedType": "weekly_limit"})
    server.tell("nothing/known")
    server.tell("item/agentMessage/delta", threadId="other", itemId="o", delta="of another thread")
    server.say({"id": 9, "method": "item/tool/call", "params": {}})
    server.complete("failed", error={"message": "401", "codexErrorInfo": "unauthorized"})
    assert [(event.speaker, event.text) for event in server.of(MessageChunk)] == [
        *(("thought", "hm"), ("agent", "the whole"))
    ]
    entries = [PlanEntry(content="one", status="in_progress"), PlanEntry(content="two", status="pending")]
    assert server.of(Plan) == [Plan(entries=entries)]
    assert [(event.name, event.title) for event in server.of(ToolCall)] == [("s.t", "t"), ("web_search", "a query")]
    assert server.of(ToolCallEnded)[0].text == "out"
    assert [event.kind for event in server.of(Notice)] == ["compaction", "rate_limit"]
    assert server.run.unknown == 2
    assert "Codex is not signed in: 401" in (server.run.error or "")


@pytest.mark.parametrize("cause", ["usageLimitExceeded", "other"])
def test_a_turn_ends_at_a_limit_of_the_vendor(cause):
    """Its report says so, with the reset of the window that is used up; another error is no limit."""
    server = Server(translator()).open()
    primary = {"usedPercent": 100, "windowDurationMins": 300, "resetsAt": 1_800_000_000}
    server.tell("account/rateLimits/updated", threadId=None, rateLimits={"primary": primary, "secondary": None})
    server.complete("failed", error={"message": "You’ve hit your usage limit.", "codexErrorInfo": cause})
    (window,) = server.run.report.windows
    limit = VendorLimit(resets_at=window.resets_at, untouched=True)
    assert server.run.report.limit == (limit if cause == "usageLimitExceeded" else None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
types = st.sampled_from(["commandExecution", "fileChange", "agentMessage", "userMessage", "reasoning", "mcpToolCall"])
item_fields = st.dictionaries(
    st.sampled_from(["status", "command", "changes", "summary", "text", "content", "exitCode", "result", "error"]),
    json_values,
    max_size=4,
)
methods = st.sampled_from(
    ["item/started", "item/completed", "item/agentMessage/delta", "turn/plan/updated", "thread/tokenUsage/updated", "x"]
)
messages = st.one_of(
    st.builds(
        lambda method, kind, number, more, item: {
            "method": method,
            "params": {**more, "threadId": "t1", "item": {**item, "type": kind, "id": number}},
        },
        methods,
        types,
        st.sampled_from(["c1", "c2"]),
        st.dictionaries(st.sampled_from(["itemId", "delta", "plan", "tokenUsage"]), json_values, max_size=3),
        item_fields,
    ),
    st.builds(
        lambda number, method, params: {"id": number, "method": method, "params": params},
        json_values,
        st.sampled_from(["item/fileChange/requestApproval", "item/tool/requestUserInput", "x"]),
        st.dictionaries(st.sampled_from(["itemId", "command", "grantRoot"]), json_values, max_size=3),
    ),
    st.builds(lambda number, result: {"id": number, "result": result}, st.integers(0, 6) | json_values, json_values),
    json_values,
)


@given(st.lists(messages, max_size=12), st.integers(1, 40))
def test_no_message_is_too_strange(told, size):
    """Whatever arrives, cut anywhere: nothing is raised, each call that is shown ends once, the turn once."""
    server = Server(translator(mode="accept_edits")).open()
    data = b"".join(json.dumps(message).encode() + b"\n" for message in told)
    events = [event for at in range(0, len(data), size) for event in server.run.receive(data[at : at + size])]
    over = {"method": "turn/completed", "params": {"threadId": "t1", "turn": {"id": "u1", "status": "completed"}}}
    events += server.run.receive(b"\n" + json.dumps(over).encode() + b"\n")
    events += server.run.end()
    assert sum(isinstance(event, TurnEnded) for event in events) == 1
    begun = [event.id for event in events if isinstance(event, ToolCall)]
    assert sorted(begun) == sorted(event.id for event in events if isinstance(event, ToolCallEnded))


def test_images_go_with_the_prompt():
    """They are given by their paths, after the text."""
    server = Server(translator(images=["/private/a.png"]))
    server.answer("initialize", {})
    server.answer("thread/start", THREAD)
    assert server.sent[-1]["params"]["input"] == [
        {"type": "text", "text": "the prompt"},
        {"type": "localImage", "path": "/private/a.png"},
    ]


def asking(method: str, decision: Decision | None, rules: ToolRules = NO_RULES, **params: object) -> Server:
    """A turn in which Codex asks this about the call `c`."""
    server = Server(translator(mode="accept_edits" if rules else "ask", rules=rules)).open()
    server.decision = decision
    if method == "item/fileChange/requestApproval":
        server.item("started", type="fileChange", id="c", changes=[{"path": f"{FOLDER}/a", "kind": {}, "diff": "x"}])
    server.say({"id": 7, "method": method, "params": {"threadId": "t1", "turnId": "u1", "itemId": "c", **params}})
    return server


QUESTIONS = [
    {"id": "q1", "question": "Which?", "header": "H", "options": [{"label": "A"}], "isOther": False},
    {"id": "q2", "question": "The key?", "isSecret": True},
]
ANSWERS = Answers(answers=[QuestionAnswer(id="q1", answers=["A"]), QuestionAnswer(id="q2", answers=["k"])])
COMMAND = {"command": "/bin/bash -lc 'touch b'", "cwd": FOLDER, "reason": "it must"}
NETWORK = {"networkApprovalContext": {"host": "a.example", "protocol": "https"}}
_CALL = {
    "codex_approval_kind": "mcp_tool_call",
    "tool_name": "fill",
    "tool_description": "Fills.",
    "tool_params": {"a": 1},
}
FORM = {"serverName": "s", "mode": "form", "message": "Who?", "requestedSchema": {"type": "object"}}
MCP_CALL = {**FORM, "message": "Allow it?", "_meta": _CALL}


@pytest.mark.parametrize(
    ("method", "params", "decision", "result"),
    [
        ("item/commandExecution/requestApproval", COMMAND, Allow(), {"decision": "accept"}),
        ("item/commandExecution/requestApproval", COMMAND, Deny(), {"decision": "decline"}),
        ("item/commandExecution/requestApproval", {**COMMAND, **NETWORK}, Allow(), {"decision": "accept"}),
        ("item/fileChange/requestApproval", {}, Allow(), {"decision": "accept"}),
        ("item/fileChange/requestApproval", {"itemId": "unknown"}, Allow(), {"decision": "decline"}),
        (
            "item/permissions/requestApproval",
            {"permissions": {"network": {"enabled": True}}},
            Allow(),
            {"permissions": {"network": {"enabled": True}}, "scope": "turn"},
        ),
        ("item/permissions/requestApproval", {"permissions": {"a": 1}}, Deny(), {"permissions": {}, "scope": "turn"}),
        (
            "item/tool/requestUserInput",
            {"questions": QUESTIONS},
            ANSWERS,
            {"answers": {"q1": {"answers": ["A"]}, "q2": {"answers": ["k"]}}},
        ),
        ("item/tool/requestUserInput", {"questions": QUESTIONS}, Deny(), {"answers": {}}),
        ("item/tool/requestUserInput", {"questions": []}, Allow(), {"answers": {}}),
        (
            "mcpServer/elicitation/request",
            FORM,
            FilledForm(content='{"a":1}'),
            {"action": "accept", "content": {"a": 1}},
        ),
        ("mcpServer/elicitation/request", FORM, Deny(), {"action": "decline"}),
        ("mcpServer/elicitation/request", FORM, Deny(cancel=True), {"action": "cancel"}),
        ("mcpServer/elicitation/request", MCP_CALL, Allow(), {"action": "accept", "content": {}}),
        ("mcpServer/elicitation/request", MCP_CALL, Deny(), {"action": "decline"}),
        ("mcpServer/elicitation/request", {**FORM, "mode": "url"}, Allow(), {"action": "decline"}),
    ],
)
def test_what_a_person_decides_is_given_once(method, params, decision, result):
    """In Codex's words, and for this time only. What cannot be shown is denied. An interrupt leaves no request open."""
    server = asking(method, decision, **params)
    assert [line for line in server.sent if "result" in line] == [{"id": 7, "result": result}]
    open = asking(method, None, **params)
    for opened in open.of(RequestOpened):
        assert problem_with(decision, opened.body) is None
    asked = bool(open.of(RequestOpened))
    open.run.interrupt()
    open.read()
    cancelled = [line["result"] for line in open.sent if "result" in line]
    assert len(cancelled) == 1 and ("accept" not in str(cancelled) or not asked)
    assert open.run.answer(uuid4(), decision, "") is None


def test_a_request_for_a_connection_is_titled_by_its_host():
    """Codex tells of no command with it."""
    (opened,) = asking("item/commandExecution/requestApproval", None, **NETWORK).of(RequestOpened)
    assert opened.title == "shell_network https a.example"


TOUCH = {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["touch", 'b "c"']}}
TOUCH_RULE = 'prefix_rule(pattern=["touch", "b \\"c\\""], decision="allow")'
HOST, NO_HOST = (
    {"applyNetworkPolicyAmendment": {"network_policy_amendment": {"host": "A.example", "action": action}}}
    for action in ("allow", "deny")
)
HOST_RULE = (
    'network_rule(host="a.example", protocol="https", decision="allow", '
    'justification="Allow https_connect access to a.example")'
)


@pytest.mark.parametrize(
    ("params", "amendments", "rules"),
    [
        (COMMAND, ["accept", TOUCH, "cancel"], {TOUCH_RULE: TOUCH}),
        ({**COMMAND, **NETWORK}, ["accept", NO_HOST, HOST], {HOST_RULE: HOST}),
        (COMMAND, [HOST], {}),  # of which nobody knows the protocol
        (COMMAND, ["accept", {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["a" * 1024]}}], {}),
        (COMMAND, [{"acceptWithExecpolicyAmendment": {"execpolicy_amendment": [1]}}, {"other": 1}], {}),
        (COMMAND, None, {}),
    ],
)
@pytest.mark.parametrize("home", ["/home/dev/.codex", "/home/dev\n", ""])
def test_a_rule_of_codex_is_kept_by_an_answer_that_names_it_alone(params, amendments, rules, home):
    """The request shows the line that Codex writes, and its file. Neither an allowance for once nor a rule of ours has
    Codex keep one."""
    server = Server(translator())
    server.answer("initialize", {"userAgent": "codex/0", "codexHome": home})
    server.answer("thread/start", THREAD)
    server.answer("turn/start", {"turn": {"id": "u1"}})
    server.decision = None
    method = "item/commandExecution/requestApproval"
    told = {"threadId": "t1", "turnId": "u1", "availableDecisions": amendments, **params}
    for number in range(2):
        server.say({"id": number, "method": method, "params": {**told, "itemId": f"c{number}"}})
    first, second = server.of(RequestOpened)
    offered = [(kept.rule, kept.file) for kept in first.body.cli_rules]
    assert offered == [(rule, "/home/dev/.codex/rules/default.rules") for rule in rules if home == "/home/dev/.codex"]
    for rule, _ in offered:
        assert problem_with(Allow(cli_rule=rule), first.body) is None
        server.run.answer(first.id, Allow(cli_rule=rule), "")
    server.run.answer(second.id, Allow(), "")
    server.read()
    given = [{"id": 0, "result": {"decision": rules[rule]}} for rule, _ in offered]
    assert [line for line in server.sent if "result" in line] == [*given, {"id": 1, "result": {"decision": "accept"}}]
    allowing = Server(translator(rules=ToolRules(allow=["execute", "shell_network"]))).open()
    allowing.say({"id": 7, "method": method, "params": {**told, "itemId": "c"}})
    assert [line for line in allowing.sent if "result" in line] == [{"id": 7, "result": {"decision": "accept"}}]


@pytest.mark.parametrize(
    ("method", "rule", "params", "decision"),
    [
        ("item/commandExecution/requestApproval", "+execute(touch *)", COMMAND, "accept"),
        ("item/commandExecution/requestApproval", "+shell(ls *)", COMMAND, None),
        ("item/commandExecution/requestApproval", "-shell(touch *)", COMMAND, "decline"),
        ("item/commandExecution/requestApproval", "+execute", {**COMMAND, **NETWORK}, None),
        ("mcpServer/elicitation/request", "+s.fill", MCP_CALL, "accept"),
        ("mcpServer/elicitation/request", "-s.fill", MCP_CALL, "decline"),
        ("mcpServer/elicitation/request", "+s.other", MCP_CALL, None),
        ("item/fileChange/requestApproval", "-edit(a)", {}, "decline"),  # the mode would allow it
        ("item/fileChange/requestApproval", "+edit(a)", {"grantRoot": "/"}, None),
    ],
)
def test_a_rule_decides_what_codex_asks(method, rule, params, decision):
    """A denial goes before the permission mode, and an allowance allows no more than it names."""
    rules = ToolRules(deny=[rule[1:]]) if rule[0] == "-" else ToolRules(allow=[rule[1:]])
    server = asking(method, None, rules, **params)
    results = [line["result"] for line in server.sent if "result" in line]
    given = [result.get("decision") or result.get("action") for result in results]
    assert given == ([decision] if decision is not None else [])
    assert len(server.of(RequestOpened)) == (decision is None)
    assert [event.reason for event in server.of(PermissionDenied)] == [f"by rule {rule[1:]}"] * (decision == "decline")
    assert len([notice for notice in server.of(Notice) if "by rule" in notice.text]) == (decision == "accept")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_a_command_is_seen_without_its_shell(command):
    """However it is quoted; rules see the command that runs."""
    assert items.title({"command": shlex.join(["/bin/bash", "-lc", command])}) == command


@pytest.mark.parametrize("command", ["/bin/bash -lc 'a", "/bin/bash -lc a b", "bash -c ls", "ls -lc x"])
def test_another_command_stays_whole(command):
    """What is not one word after a shell and its option."""
    assert items.title({"command": command}) == command


@pytest.mark.parametrize(
    ("item", "rule", "when"),
    [
        ({"type": "commandExecution", "command": "rm x", "processId": "7"}, "shell(rm *)", "started"),
        ({"type": "commandExecution", "command": "rm x", "processId": None}, "execute", "completed"),
        ({"type": "commandExecution", "command": "/bin/bash -lc ls", "processId": "7"}, "shell(ls*)", "started"),
        ({"type": "webSearch", "query": "a"}, "fetch", "started"),
    ],
)
def test_a_denied_call_that_codex_does_not_ask_about_stops_the_turn(item, rule, when):
    """It has run, or runs: the turn is interrupted, and fails with the rule."""
    server = Server(translator(rules=ToolRules(deny=[rule]))).open()
    server.decision = None
    server.say({"id": 7, "method": "item/tool/requestUserInput", "params": {"threadId": "t1", "questions": QUESTIONS}})
    server.item("started", id="c", **item)
    interrupts = [line for line in server.sent if line.get("method") == "turn/interrupt"]
    assert len(interrupts) == (when == "started")
    server.item("completed", id="c", status="completed", **item)
    assert server.asked("turn/interrupt")["params"] == {"threadId": "t1", "turnId": "u1"}
    assert len(server.of(RequestWithdrawn)) == 1
    server.complete("interrupted")
    assert server.run.outcome == "failed" and rule in (server.run.error or "")


def test_what_codex_asks_is_shown_whole():
    """The command without its shell, the folder and the reason; of a change of files the diff."""
    [opened] = asking("item/commandExecution/requestApproval", None, **COMMAND).of(RequestOpened)
    body = opened.body
    assert (opened.title, body.folder, body.reason, body.parts) == ("shell touch b", FOLDER, "it must", [["touch b"]])
    assert body.rules == ["shell(touch b)", "shell(touch *)", "shell"]
    [opened] = asking("mcpServer/elicitation/request", None, **MCP_CALL).of(RequestOpened)
    assert (opened.title, opened.body.tool, opened.body.input) == ("s.fill", "s.fill", '{"a":1}')
    [opened] = asking("item/fileChange/requestApproval", None, grantRoot="/").of(RequestOpened)
    assert (opened.body.diff, opened.body.reason) == (
        *(f"--- /dev/null\n+++ {FOLDER}/a\n@@ -0,0 +1 @@\n+x\n", "For all files in /."),
    )
    [opened] = asking("item/commandExecution/requestApproval", None, command="/bin/bash -lc 'a\\'b'").of(RequestOpened)
    assert opened.body.parts == [], "no pattern fits a command that is told in quotes of its own"


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("item/commandExecution/requestApproval", COMMAND),
        ("item/fileChange/requestApproval", {}),
        ("item/permissions/requestApproval", {"permissions": {"a": 1}}),
        ("item/tool/requestUserInput", {"questions": QUESTIONS}),
        ("mcpServer/elicitation/request", FORM),
    ],
)
def test_the_reason_of_a_denial_is_a_text_for_the_turn(method, params):
    """Codex takes no reason with a denial, whatever it asks: the server sends it, and the person is told so before."""
    [opened] = asking(method, None, **params).of(RequestOpened)
    assert opened.body.reason_way == "steered"
    server = asking(method, Deny(reason="Use b."), **params)
    assert "Use b." not in str(server.sent)


def test_a_request_that_is_resolved_elsewhere_is_withdrawn():
    """Codex tells when a request is answered or given up; the end of the turn does, too."""
    server = asking("item/fileChange/requestApproval", None)
    server.tell("serverRequest/resolved", requestId=8)
    assert server.of(RequestWithdrawn) == []
    server.tell("serverRequest/resolved", requestId=7)
    [withdrawn] = server.of(RequestWithdrawn)
    assert withdrawn.id == server.of(RequestOpened)[0].id
    ended = asking("item/fileChange/requestApproval", None)
    ended.complete()
    assert len(ended.of(RequestWithdrawn)) == 1
