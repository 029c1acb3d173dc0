"""The Agent Client Protocol, as recorded from Gemini CLI and others, and with unknown or invalid messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.decisions import UNASKED, decided

from onsembl.agent.drivers.acp.clis import GEMINI, KNOWN, cli_of
from onsembl.agent.drivers.acp.translator import AcpTranslator
from onsembl.protocol.attention_messages import Allow, Decision, Deny, FilledForm
from onsembl.protocol.permissions import PERMISSION_MODES, PermissionMode
from onsembl.protocol.request_events import RequestOpened, RequestWithdrawn
from onsembl.protocol.tool_rules import NO_RULES, ToolRules
from onsembl.protocol.turn_events import (
    MessageChunk,
    Notice,
    PermissionDenied,
    Plan,
    PlanEntry,
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
ANY = replace(GEMINI, name="A CLI", replay_ends_with=None)
"""A CLI without Gemini's quirk."""
SESSION = {"sessionId": "s1", "modes": {"currentModeId": "default"}, "models": {"currentModelId": "a-model"}}
INITIALIZED = {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}, "authMethods": []}


def translator(
    known: str | None = None, mode: PermissionMode | None = "ask", has_key: bool = False, cli=GEMINI, **others: object
) -> AcpTranslator:
    begun: list[str] = []
    run = AcpTranslator(
        cli,
        "the prompt",
        folder="/home/dev/project",
        known=known,
        mode=mode,
        has_key=has_key,
        on_conversation=begun.append,
        **{"fork_of": None, **others},
    )
    run.begun = begun
    return run


class Client:
    """A translator, and the CLI at its other end: `answer` answers its last request."""

    def __init__(self, run: AcpTranslator) -> None:
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

    def update(self, kind: str, /, **fields: object) -> None:
        session = self.run._session
        params = {"sessionId": session, "update": {"sessionUpdate": kind, **fields}}
        self.say({"jsonrpc": "2.0", "method": "session/update", "params": params})

    def answer(self, method: str, result: dict | None = None, error: dict | None = None) -> None:
        assert self.sent[-1]["method"] == method
        told = {"result": result} if error is None else {"error": error}
        self.say({"jsonrpc": "2.0", "id": self.sent[-1]["id"], **told})

    def open(self) -> Client:
        """All until the prompt is sent."""
        self.answer("initialize", INITIALIZED)
        self.answer("session/new", SESSION)
        self.answer("session/set_mode", {})
        assert self.sent[-1]["method"] == "session/prompt"
        return self

    def open_before_mode(self) -> Client:
        """All until the mode is set."""
        self.answer("initialize", INITIALIZED)
        self.answer("session/new", SESSION)
        return self

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


def prompts(name: str) -> Iterator[tuple[list[dict], list[dict], dict]]:
    """Of each prompt of a recording: the answers to the requests before it, what came meanwhile, and its answer."""
    lines = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]
    said = [(line["dir"], line["msg"]) for line in lines if line["dir"] in ("in", "out")]
    methods = {msg["id"]: msg["method"] for way, msg in said if way == "in" and "method" in msg and "id" in msg}
    answers = {msg["id"]: msg for way, msg in said if way == "out" and "method" not in msg}
    before = [answers[number] for number, method in methods.items() if method in ("initialize", "session/new")]
    for number, method in methods.items():
        if method != "session/prompt" or number not in answers:
            continue
        asked = next(at for at, (way, msg) in enumerate(said) if way == "in" and msg.get("id") == number)
        answered = said.index(("out", answers[number]))
        yield before, [msg for way, msg in said[asked:answered] if way == "out" and "method" in msg], answers[number]


def replayed(name: str) -> Iterator[Client]:
    for before, meanwhile, answer in prompts(name):
        client = Client(translator(cli=ANY))
        client.answer("initialize", {**before[0]["result"], "authMethods": []})
        client.answer("session/new", before[1]["result"])
        client.answer("session/set_mode", {})
        client.say(*meanwhile)
        number = next(line["id"] for line in client.sent if line.get("method") == "session/prompt")
        client.say({**answer, "id": number})
        yield client


@pytest.mark.parametrize("name", ["gemini-turns", "acp-opencode", "acp-claude", "acp-codex"])
def test_recorded_turns(name, subtests):
    """Each recorded turn ends once, with an outcome; each of its tool calls is shown once and has one result."""
    turns = list(replayed(name))
    assert len(turns) > 2
    for number, client in enumerate(turns):
        with subtests.test(turn=number):
            assert client.run.unknown == 0
            assert [event for event in client.events if isinstance(event, TurnEnded)] == client.events[-1:]
            assert client.run.input_complete and client.run.outcome is not None
            begun = [event.id for event in client.of(ToolCall)]
            assert begun == sorted(set(begun), key=begun.index)
            assert sorted(begun) == sorted(event.id for event in client.of(ToolCallEnded))


def test_a_recorded_run_of_gemini():
    """An answer, calls that are not allowed, an edit with its change, an interrupt, and an error of the model's API."""
    turns = list(replayed("gemini-turns"))
    text = "".join(event.text for event in turns[0].of(MessageChunk))
    assert (text, turns[0].run.outcome) == ("Scripted answer: hello gemini", "completed")
    assert turns[0].run.usage == usage_of({"gemini-2.5-flash": (100, 7, 0, 0)}, turns=1, model="gemini-2.5-flash")
    assert turns[0].run.begun == ["6a40f738-5197-44f8-95de-9690b20715b4"]
    rejected = turns[2]
    assert rejected.of(ToolCall)[0].title == "touch g2.txt"
    assert [event.reason for event in rejected.of(PermissionDenied)] == ["nobody could be asked"]
    assert [event.status for event in rejected.of(ToolCallEnded)] == ["failed"], "Gemini tells nothing more of it"
    assert rejected.run.report.denials == [Denial(tool="execute", title="touch g2.txt")]
    outcome = {"outcome": "selected", "optionId": "cancel"}
    assert {"jsonrpc": "2.0", "id": 1, "result": {"outcome": outcome}} in rejected.sent
    edited = next(turn for turn in turns if any("three => four" in event.title for event in turn.of(ToolCall)))
    assert "-three\n+four" in edited.of(ToolCallEnded)[0].text
    outcomes = [turn.run.outcome for turn in turns]
    assert "interrupted" in outcomes
    failed = next(turn for turn in turns if turn.run.outcome == "failed")
    assert "scripted failure" in (failed.run.error or "")


def test_a_recorded_conversation_goes_on():
    """What a replay tells is no part of the turn, and the prompt waits for the replay's end."""
    lines = [json.loads(line) for line in (RECORDINGS / "gemini-load.jsonl").read_text().splitlines()]
    out = [line["msg"] for line in lines if line["dir"] == "out"]
    client = Client(translator(known="2c0b2724-07eb-4d44-9b3a-ea911d6b39cf", has_key=True))
    client.answer("initialize", out[0]["result"])
    client.answer("authenticate", {})
    loading = client.sent[-1]["id"]
    assert client.sent[-1]["params"]["sessionId"] == "2c0b2724-07eb-4d44-9b3a-ea911d6b39cf"
    for message in out[2:]:
        if message.get("id") == 4:
            client.answer("session/prompt", message["result"])
        elif message.get("method") != "session/update" or client.sent[-1]["method"] != "session/set_mode":
            client.say({**message, "id": loading} if "id" in message else message)
        if client.sent[-1]["method"] == "session/set_mode":
            client.answer("session/set_mode", {})
    assert "".join(event.text for event in client.of(MessageChunk)) == "Scripted answer: after load"
    assert client.run.outcome == "completed" and client.run.begun == []


def test_a_conversation_that_the_cli_does_not_know_is_forgotten():
    """The turn ends with words that say what to do."""
    message = json.loads((RECORDINGS / "gemini-load-same-minute.jsonl").read_text().splitlines()[6])["msg"]
    client = Client(translator(known="7e65a9dd-d8fb-47c6-838e-fe7438465d01"))
    client.answer("initialize", INITIALIZED)
    client.answer("session/load", error=message["error"])
    assert client.run.report.forgotten and "Begin a new one" in (client.run.error or "")
    assert client.run.input_complete


def test_a_turn_ends_at_a_limit_of_the_vendor():
    """Too many requests are the vendor's limit; the report says whether the turn had done anything."""
    refused = {"code": 429, "message": "Resource has been exhausted"}
    at_once, later = Client(translator()).open(), Client(translator()).open()
    at_once.answer("session/prompt", error=refused)
    later.update("agent_message_chunk", content={"type": "text", "text": "hm"})
    later.answer("session/prompt", error=refused)
    assert at_once.run.report.limit == VendorLimit(untouched=True)
    assert at_once.run.report.conversation == "s1"
    assert later.run.report.limit == VendorLimit(untouched=False)


@pytest.mark.parametrize(
    ("known", "answers", "outcome", "error"),
    [
        (None, [("initialize", {"protocolVersion": 2})], "failed", "A CLI speaks version 2 of ACP"),
        ("s", [("initialize", {"protocolVersion": 1})], "failed", "cannot continue a conversation"),
        (None, [("initialize", INITIALIZED), ("session/new", None)], "failed", "A CLI is not signed in: no key"),
        (
            None,
            [("initialize", INITIALIZED), ("session/new", SESSION), ("session/set_mode", None)],
            "failed",
            "A CLI refused the permission mode ask: no key",
        ),
    ],
)
def test_a_turn_that_cannot_begin_says_why(known, answers, outcome, error):
    """The prompt is not sent, and the input is complete."""
    client = Client(translator(known=known, cli=ANY))
    for method, answer in answers:
        refused = {"code": -32000 if method == "session/new" else -32603, "message": "no key"}
        client.answer(method, answer, error=refused if answer is None else None)
    assert client.run.outcome == outcome and error in (client.run.error or "")
    assert client.run.input_complete and [type(event) for event in client.events] == [TurnEnded]
    assert "session/prompt" not in [line.get("method") for line in client.sent]


def test_a_cli_that_resumes_is_not_asked_for_a_replay():
    """`session/resume` is used where the CLI has it."""
    client = Client(translator(known="s1", cli=ANY))
    client.answer("initialize", {"protocolVersion": 1, "agentCapabilities": {"sessionCapabilities": {"resume": {}}}})
    client.answer("session/resume", SESSION)
    client.answer("session/set_mode", {})
    assert client.sent[-1]["method"] == "session/prompt"


def test_a_copy_of_a_conversation_is_refused():
    """The turn ends in words: no prompt is sent to another conversation."""
    client = Client(translator(fork_of="s0", cli=ANY))
    client.answer("initialize", INITIALIZED)
    assert "cannot fork" in (client.run.error or "") and client.run.input_complete


FORKS = {"protocolVersion": 1, "agentCapabilities": {"sessionCapabilities": {"fork": {}, "resume": {}}}}


def test_a_copy_of_a_conversation_is_made_where_the_cli_announces_it():
    """The prompt goes to the copy, whose id is kept. The cost that the CLI tells may be that of the original, too."""
    client = Client(translator(fork_of="s0", cli=ANY, mode=None))
    client.answer("initialize", FORKS)
    assert client.sent[-1]["params"] == {"sessionId": "s0", "cwd": "/home/dev/project", "mcpServers": []}
    client.answer("session/fork", SESSION)
    assert (client.run.begun, client.sent[-1]["params"]["sessionId"]) == (["s1"], "s1")
    client.update("usage_update", used=1, size=10, cost={"amount": 3, "currency": "USD"})
    client.answer("session/prompt", {"stopReason": "end_turn", "usage": {"inputTokens": 5}})
    assert client.run.usage == usage_of({"a-model": (5, 0, 0, 0)}, model="a-model", turns=1)


def test_a_copy_of_a_conversation_that_the_cli_has_forgotten():
    """It ends the turn as one that would continue it."""
    client = Client(translator(fork_of="s0", cli=ANY))
    client.answer("initialize", FORKS)
    client.answer("session/fork", error={"code": -32002, "message": "Resource not found"})
    assert client.run.report.forgotten


@pytest.mark.parametrize("mode", PERMISSION_MODES)
def test_qwen_code_does_not_begin_in_its_own_mode(mode):
    """Which is one in which a model decides: nothing is prompted before it has ours."""
    client = Client(translator(cli=KNOWN["qwen"], mode=mode))
    client.answer("initialize", INITIALIZED)
    client.answer("session/new", SESSION | {"modes": {"currentModeId": "auto"}})
    assert client.sent[-1]["method"] == "session/set_mode"
    assert (client.sent[-1]["params"]["modeId"] == "auto") == (mode == "auto")


def test_a_mode_that_is_an_option():
    """Copilot asks nothing with the option `allow_all`, which is set in the mode `full` only."""
    for mode in ("ask", "full"):
        client = Client(translator(cli=KNOWN["copilot"], mode=mode)).open_before_mode()
        client.answer("session/set_mode", {})
        if mode == "full":
            assert client.sent[-1]["params"] == {"sessionId": "s1", "configId": "allow_all", "value": "on"}
            client.answer("session/set_config_option", {})
        assert client.sent[-1]["method"] == "session/prompt"
    refused = Client(translator(cli=KNOWN["copilot"], mode="full")).open_before_mode()
    refused.answer("session/set_mode", {})
    refused.answer("session/set_config_option", error={"code": -32602, "message": "no such option"})
    assert refused.run.error == "GitHub Copilot CLI refused the permission mode full: no such option"


def test_tokens_of_a_cache_that_the_input_includes():
    """As GitHub Copilot CLI reports them: written ones, too. The total tells."""
    client = Client(translator(cli=ANY)).open()
    told = {"inputTokens": 8264, "outputTokens": 28, "cachedReadTokens": 8000, "cachedWriteTokens": 56}
    client.answer("session/prompt", {"stopReason": "end_turn", "usage": told | {"totalTokens": 8292}})
    assert client.run.usage == usage_of({"a-model": (208, 28, 8000, 56)}, model="a-model", turns=1)


@pytest.mark.parametrize(
    ("cli", "partial"),
    [(GEMINI, False), (KNOWN["claude-agent-acp"], False), (KNOWN["opencode"], True), (cli_of(["my-cli"]), True)],
)
def test_tokens_of_a_cli_that_is_not_known_to_report_all(cli, partial):
    """OpenCode reports those of the last call of the model; of an unknown CLI nothing can be said."""
    client = Client(translator(cli=cli, mode=None))
    client.answer("initialize", INITIALIZED)
    client.answer("session/new", SESSION)
    client.answer("session/prompt", {"stopReason": "end_turn", "usage": {"inputTokens": 5}})
    assert client.run.usage is not None and client.run.usage.partial == partial


def test_tokens_that_come_with_messages():
    """Qwen Code tells those of each call of the model so, and none with the answer to the prompt."""
    client = Client(translator(cli=ANY)).open()
    told = {"usage": {"inputTokens": 4132, "outputTokens": 14, "totalTokens": 4146, "cachedReadTokens": 4000}}
    for _ in range(2):
        client.update("agent_message_chunk", content={"type": "text", "text": ""}, _meta=told)
    client.answer("session/prompt", {"stopReason": "end_turn"})
    assert client.run.usage == usage_of({"a-model": (264, 28, 8000, 0)}, model="a-model", turns=1)


def test_a_cli_that_wants_to_be_signed_in_names_its_ways():
    """As GitHub Copilot CLI and Qwen Code do."""
    client = Client(translator(cli=KNOWN["copilot"]))
    way = {"id": "copilot-login", "name": "Log in", "description": "Run `copilot login` in the terminal"}
    client.answer("initialize", INITIALIZED | {"authMethods": [way, {"id": "key", "name": "An API key"}]})
    client.answer("session/new", error={"code": -32000, "message": "Authentication required"})
    assert client.run.error == (
        "GitHub Copilot CLI is not signed in: Authentication required. On the agent's machine: "
        "Run `copilot login` in the terminal; or: An API key"
    )


@pytest.mark.parametrize("opens", ["session/new", "session/resume", "session/fork"])
def test_claude_by_acp_makes_no_calls_of_the_model_that_nobody_asked_for(opens):
    """However the conversation is opened: those for titles and next prompts are not in what it reports."""
    which = {"session/resume": {"known": "s1"}, "session/fork": {"fork_of": "s0"}}.get(opens, {})
    client = Client(translator(cli=KNOWN["claude-agent-acp"], **which))
    client.answer("initialize", FORKS)
    assert client.sent[-1]["method"] == opens
    options = client.sent[-1]["params"]["_meta"]["claudeCode"]["options"]
    assert options["title"] and options["promptSuggestions"] is False


def test_a_call_is_shown_once_its_arguments_are_known():
    """Claude by ACP tells them by an update without a status, long before the call ends; a call of its subagent names
    the call that began it. OpenCode titles a change of a file by the name of its tool."""
    client = Client(translator(cli=ANY)).open()
    client.update("tool_call", toolCallId="a", title="Terminal", kind="execute", status="pending", rawInput={})
    assert not client.of(ToolCall)
    told = {"command": "sleep 9"}
    client.update("tool_call_update", toolCallId="a", title="sleep 9", rawInput=told)
    within = {"claudeCode": {"parentToolUseId": "a"}}
    client.update(
        "tool_call", toolCallId="b", title="ls", kind="execute", status="pending", rawInput=told, _meta=within
    )
    client.update("tool_call_update", toolCallId="b", status="completed", _meta=within)
    place = {"locations": [{"path": "/home/dev/project/c.txt"}], "rawInput": {"filePath": "c.txt"}}
    client.update("tool_call", toolCallId="c", title="write", kind="edit", status="pending", rawInput={})
    client.update("tool_call_update", toolCallId="c", title="write", kind="edit", status="in_progress", **place)
    calls = [(call.title, call.parent) for call in client.of(ToolCall)]
    assert calls == [("sleep 9", None), ("ls", "a"), ("/home/dev/project/c.txt", None)]
    assert [(event.id, event.parent) for event in client.of(ToolCallEnded)] == [("b", "a")]


def test_what_comes_before_the_prompt_belongs_to_no_turn():
    """Nor does Gemini's message about the mode that was asked for; the model's own text is shown, whatever it is."""
    client = Client(translator(mode="full"))
    client.answer("initialize", INITIALIZED)
    client.answer("session/new", SESSION)
    said = {"type": "text", "text": "[MODE_UPDATE] yolo"}
    client.update("agent_message_chunk", content={"type": "text", "text": "of another turn"})
    client.update("tool_call", toolCallId="c", title="x", status="in_progress")
    client.answer("session/set_mode", {})
    client.update("agent_message_chunk", content=said)
    assert client.of(MessageChunk) == client.of(ToolCall) == []
    client.update("agent_message_chunk", content={"type": "text", "text": "[MODE_UPDATE] plan"})
    client.update("agent_message_chunk", content=said)
    assert [event.text for event in client.of(MessageChunk)] == ["[MODE_UPDATE] plan", "[MODE_UPDATE] yolo"]


def test_an_interrupt_before_the_prompt_ends_the_turn():
    """Nothing is sent any more, whatever the CLI answers then."""
    client = Client(translator())
    client.answer("initialize", INITIALIZED)
    client.run.interrupt()
    assert client.run.input_complete and client.run.outcome == "interrupted"
    client.answer("session/new", SESSION)
    client.answer("session/set_mode", {})
    assert client.sent[-1]["method"] == "session/set_mode"
    assert [type(event) for event in client.run.end()] == [TurnEnded]


def test_an_interrupt_cancels_the_prompt_and_open_questions():
    """What the CLI asks after it is answered as cancelled, and counts as no denial."""
    client = Client(translator()).open()
    client.run.interrupt()
    client.read()
    assert client.sent[-1] == {"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": "s1"}}
    client.say({"id": 7, "method": "session/request_permission", "params": {"toolCall": {"toolCallId": "c"}}})
    assert client.sent[-1]["result"] == {"outcome": {"outcome": "cancelled"}}
    assert client.run.report.denied == 0


def test_plans_thoughts_modes_and_usage_are_shown():
    """Each kind of update becomes its event; one that is not known is counted."""
    client = Client(translator()).open()
    client.update("agent_thought_chunk", content={"type": "text", "text": "hm"})
    client.update("agent_message_chunk", content={"type": "image", "mimeType": "image/png", "data": "A" * 400})
    client.update("plan", entries=[{"content": "one", "status": "in_progress"}, {"content": "two", "status": "?"}])
    client.update("current_mode_update", currentModeId="yolo")
    client.update("usage_update", used=10, size=100, cost={"amount": 0.5, "currency": "USD"})
    client.update("nothing that is known")
    client.answer("session/prompt", {"stopReason": "refusal", "usage": {"inputTokens": 5, "totalTokens": 5}})
    speakers = [(event.speaker, event.text) for event in client.of(MessageChunk)]
    assert speakers == [("thought", "hm"), ("agent", "[image/png, 300 bytes]")]
    entries = [PlanEntry(content="one", status="in_progress"), PlanEntry(content="two", status="pending")]
    assert client.of(Plan) == [Plan(entries=entries)]
    assert client.of(TurnStarted)[0].permission_mode == "default"
    assert client.of(Notice)[0].text == "Permission mode: yolo"
    report = client.run.report
    assert (report.context_tokens, report.context_window, report.permission_mode) == (10, 100, "yolo")
    assert client.run.usage == usage_of({"a-model": (5, 0, 0, 0)}, cost_usd=0.5, turns=1, model="a-model")
    assert (client.run.outcome, client.run.error) == ("failed", "The model refused the prompt.")
    assert client.run.unknown == 1


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"inputTokens": 100, "outputTokens": 10, "cachedReadTokens": 80, "totalTokens": 110}, (20, 10, 80)),
        ({"inputTokens": 20, "outputTokens": 10, "cachedReadTokens": 80, "totalTokens": 110}, (20, 10, 80)),
    ],
)
def test_tokens_from_a_cache_count_once(usage, tokens):
    """Whether the CLI counts them among the input or beside it."""
    client = Client(translator()).open()
    client.answer("session/prompt", {"stopReason": "end_turn", "usage": usage})
    found = client.run.usage
    assert found is not None
    assert (found.input_tokens, found.output_tokens, found.cache_read_tokens) == tokens


@pytest.mark.parametrize(
    ("models", "parts"),
    [
        ([("a", 70, 6), ("b", 40, 8)], {"a": (70, 6, 0, 0), "b": (40, 8, 0, 0)}),
        ([("a", 70, 6)], {"a-model": (100, 10, 0, 0)}),
        ([], {"a-model": (100, 10, 0, 0)}),
    ],
)
def test_models_count_apart_where_all_are_reported(models, parts):
    """The report by model, which has the CLI's own calls too, counts unless it lacks tokens of the turn. The cost is
    split by tokens."""
    client = Client(translator()).open()
    client.update("usage_update", used=10, size=100, cost={"amount": 0.5, "currency": "USD"})
    listed = [
        {"model": name, "token_count": {"input_tokens": entered, "output_tokens": written}}
        for name, entered, written in models
    ]
    quota = {"token_count": {"input_tokens": 100, "output_tokens": 10}, "model_usage": listed}
    client.answer("session/prompt", {"stopReason": "end_turn", "_meta": {"quota": quota}})
    usage = client.run.usage
    assert usage is not None
    assert {part.model: part.counts for part in usage.models} == parts
    assert sum(part.cost_usd or 0 for part in usage.models) == pytest.approx(0.5)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
kinds = st.sampled_from(["tool_call", "tool_call_update", "plan", "usage_update", "agent_message_chunk", "x"])
fields = st.dictionaries(
    st.sampled_from(["toolCallId", "status", "content", "title", "kind", "entries", "used", "cost", "rawInput"]),
    json_values | st.sampled_from(["c1", "completed", "failed", "pending"]),
    max_size=5,
)
messages = st.one_of(
    st.builds(
        lambda kind, more: {
            "method": "session/update",
            "params": {"sessionId": "s1", "update": {**more, "sessionUpdate": kind}},
        },
        kinds,
        fields,
    ),
    st.builds(
        lambda number, more, options: {
            "id": number,
            "method": "session/request_permission",
            "params": {"toolCall": more, "options": options},
        },
        json_values,
        fields,
        json_values,
    ),
    st.builds(lambda number, result: {"id": number, "result": result}, st.integers(0, 6) | json_values, json_values),
    st.builds(lambda number, error: {"id": number, "error": error}, st.integers(0, 6), json_values),
    json_values,
)


@given(st.lists(messages, max_size=12), st.integers(1, 40))
def test_no_message_is_too_strange(told, size):
    """Whatever arrives, cut anywhere: nothing is raised, each call that is shown ends once, the turn at most once."""
    client = Client(translator()).open()
    data = b"".join(json.dumps(message).encode() + b"\n" for message in told)
    events = [event for at in range(0, len(data), size) for event in client.run.receive(data[at : at + size])]
    client.read()
    number = next(line["id"] for line in client.sent if line.get("method") == "session/prompt")
    events += client.run.receive(b'\n{"id": %d, "result": {"stopReason": "end_turn"}}\n' % number)
    events += client.run.end()
    assert sum(isinstance(event, TurnEnded) for event in events) == 1
    begun = [event.id for event in events if isinstance(event, ToolCall)]
    assert sorted(begun) == sorted(event.id for event in events if isinstance(event, ToolCallEnded))


@pytest.mark.parametrize("takes", [True, False])
def test_images_go_with_the_prompt_where_the_cli_takes_them(takes):
    """A CLI whose prompts take no images has their paths in the text."""
    client = Client(translator(images=[("image/png", "AAAA")]))
    capabilities = {"loadSession": True, "promptCapabilities": {"image": takes}}
    client.answer("initialize", {**INITIALIZED, "agentCapabilities": capabilities})
    client.answer("session/new", SESSION)
    client.answer("session/set_mode", {})
    image = {"type": "image", "mimeType": "image/png", "data": "AAAA"}
    assert client.sent[-1]["params"]["prompt"] == [{"type": "text", "text": "the prompt"}, *([image] if takes else [])]


def asking(
    decision: Decision | None,
    kinds: tuple[str, ...] = ("allow_always", "allow_once", "reject_once"),
    servers: tuple[dict, ...] = (),
    own_tools: Sequence[str] = (),
    rules: ToolRules = NO_RULES,
    **call: object,
) -> Client:
    """A turn in which the CLI asks about a call, with options of these kinds, and has these servers of tools."""
    client = Client(translator(cli=ANY, mcp_servers=servers, own_tools=own_tools, rules=rules))
    client.answer("initialize", {**INITIALIZED, "authMethods": []})
    client.answer("session/new", SESSION)
    client.answer("session/set_mode", {})
    client.decision = decision
    options = [{"optionId": kind, "kind": kind, "name": kind} for kind in kinds]
    told = {"toolCallId": "c", "title": "touch a", "kind": "execute", "status": "pending", **call}
    params = {"sessionId": "s1", "toolCall": told, "options": options}
    client.say({"jsonrpc": "2.0", "id": 7, "method": "session/request_permission", "params": params})
    return client


def answers(client: Client) -> list[object]:
    return [line["result"]["outcome"] for line in client.sent if "result" in line]


@pytest.mark.parametrize(
    ("decision", "kinds", "outcome"),
    [
        (Allow(), ("allow_always", "allow_once"), {"outcome": "selected", "optionId": "allow_once"}),
        (Allow(), ("allow_always", "reject_once"), {"outcome": "cancelled"}),
        (Deny(), ("reject_always", "reject_once"), {"outcome": "selected", "optionId": "reject_once"}),
        (Deny(), ("allow_once",), {"outcome": "cancelled"}),
    ],
)
def test_what_a_person_decides_is_given_for_once(decision, kinds, outcome):
    """Never by an option that the CLI remembers: what cannot be allowed once is not allowed."""
    client = asking(decision, kinds)
    assert answers(client) == [outcome]
    allowed = outcome.get("optionId") == "allow_once"
    assert client.run.report.denied == (0 if allowed else 1) == len(client.of(PermissionDenied))


@pytest.mark.parametrize(
    ("rules", "kinds", "option"),
    [
        (ToolRules(allow=["execute(touch *)"]), ("allow_always", "allow_once"), "allow_once"),
        (ToolRules(allow=["execute(touch *)"]), ("allow_always",), None),
        (ToolRules(allow=["execute(ls)"]), ("allow_once",), None),
        (ToolRules(allow=["execute"], deny=["*(touch *)"]), ("allow_once", "reject_once"), "reject_once"),
    ],
)
def test_a_rule_decides_what_the_cli_asks(rules, kinds, option):
    """For this call only; what the CLI would remember is asked of a person."""
    client = asking(None, kinds, rules=rules, rawInput={"command": "touch a"})
    assert [told.get("optionId") for told in answers(client)] == ([option] if option is not None else [])
    assert len(client.of(RequestOpened)) == (option is None)
    assert len(client.of(PermissionDenied)) == client.run.report.denied == (option == "reject_once")
    assert len([notice for notice in client.of(Notice) if "by rule" in notice.text]) == (option == "allow_once")


@pytest.mark.parametrize("asks", [True, False])
def test_a_denied_call_that_the_cli_does_not_ask_about_stops_the_turn(asks):
    """It has run: the turn is cancelled, and fails with the rule. One that was asked about was decided on."""
    client = asking(None, rules=ToolRules(deny=["fetch"]), rawInput={"command": "touch a"})
    update = {
        "sessionUpdate": "tool_call",
        "toolCallId": "d",
        "title": "a.example",
        "kind": "read" if asks else "fetch",
    }
    params = {"sessionId": "s1", "update": update}
    client.say({"jsonrpc": "2.0", "method": "session/update", "params": params})
    client.update("tool_call_update", toolCallId="d", status="completed")
    cancelled = client.sent[-1].get("method") == "session/cancel"
    assert cancelled != asks
    assert len(client.of(RequestWithdrawn)) == cancelled
    prompt = next(line for line in client.sent if line.get("method") == "session/prompt")
    reason = "cancelled" if cancelled else "end_turn"
    client.say({"jsonrpc": "2.0", "id": prompt["id"], "result": {"stopReason": reason}})
    assert client.run.outcome == ("failed" if cancelled else "completed")
    text = "Stopped: A CLI ran fetch a.example without asking, which the rule fetch denies."
    assert client.run.error == (text if cancelled else None)


def test_a_request_ends_with_its_turn():
    """An interrupt cancels the request, as the protocol wants it; an answer that comes then is not given."""
    client = asking(None)
    [opened] = client.of(RequestOpened)
    client.run.interrupt()
    client.read()
    assert answers(client) == [{"outcome": "cancelled"}]
    assert client.sent[-1]["method"] == "session/cancel"
    assert client.run.answer(opened.id, Allow(), "") is None
    client = asking(None)
    client.answer("session/prompt", {"stopReason": "end_turn"})
    assert [event.id for event in client.of(RequestWithdrawn)] == [client.of(RequestOpened)[0].id]


FORM = {"mode": "form", "sessionId": "s1", "message": "Where?", "requestedSchema": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    ("decision", "given"),
    [
        (FilledForm(content='{"a":1}'), {"action": "accept", "content": {"a": 1}}),
        (Deny(reason="Later."), {"action": "decline"}),
        (Deny(cancel=True), {"action": "cancel"}),
        (None, {"action": "cancel"}),
    ],
)
@pytest.mark.parametrize("call", [{}, {"toolCallId": "c"}, {"toolCallId": "unknown"}])
def test_a_form_is_filled_in(decision, given, call):
    """During a call or between two, if the client has said that it shows forms. Without a decision the turn ends."""
    client = Client(translator(cli=ANY))
    assert client.sent[0]["params"]["clientCapabilities"]["elicitation"] == {"form": {}}
    client = asking(Allow())
    client.decision = None
    client.say({"jsonrpc": "2.0", "id": 9, "method": "elicitation/create", "params": {**FORM, **call}})
    opened = client.of(RequestOpened)[-1]
    assert (opened.title, opened.body.reason_way) == ("Where?", "next_command")
    if decision is None:
        client.run.interrupt()
    else:
        assert client.run.answer(opened.id, decision, "by anna") is not None
    client.read()
    assert [line["result"] for line in client.sent if line.get("id") == 9] == [given]
    assert client.run.report.denied == (given["action"] != "accept" and decision is not None)


def test_an_address_is_declined():
    """This client shows forms alone, and says so."""
    client = asking(Allow())
    address = {**FORM, "mode": "url", "url": "https://a.example", "elicitationId": "e"}
    client.say({"jsonrpc": "2.0", "id": 9, "method": "elicitation/create", "params": address})
    assert client.sent[-1]["result"] == {"action": "decline"}
    assert [event.reason for event in client.of(PermissionDenied)] == ["only forms can be shown"]


@pytest.mark.parametrize("method", ["session/request_permission", "elicitation/create"])
def test_a_request_that_the_cli_gives_up_is_withdrawn(method):
    """It is answered all the same, as the protocol wants it; another number changes nothing."""
    client = asking(Allow())
    client.decision = None
    params = FORM if method == "elicitation/create" else {"toolCall": {"toolCallId": "d"}, "options": []}
    client.say({"jsonrpc": "2.0", "id": 9, "method": method, "params": params})
    for number in (8, 9, 9):
        client.say({"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": number}})
    [withdrawn] = client.of(RequestWithdrawn)
    assert withdrawn.id == client.of(RequestOpened)[-1].id
    assert len([line for line in client.sent if line.get("id") == 9]) == 1
    assert client.run.answer(withdrawn.id, Allow(), "") is None


def test_what_is_asked_is_shown_whole():
    """A command by its arguments; one of which only the title is known is allowed by no pattern. An edit: its diff."""
    [opened] = asking(None, rawInput={"command": "touch a", "cwd": "/w"}).of(RequestOpened)
    assert (opened.title, opened.body.tool, opened.body.folder) == ("execute touch a", "execute", "/w")
    assert opened.body.rules == ["execute(touch a)", "execute(touch *)", "execute"]
    [opened] = asking(None, content=[{"type": "content", "content": {"type": "text", "text": "why"}}]).of(RequestOpened)
    assert (opened.body.rules, opened.body.reason, opened.body.input) == (["execute"], "why", '{"title":"touch a"}')
    change = {"type": "diff", "path": "/home/dev/project/a", "oldText": "x\n", "newText": "y\n"}
    [opened] = asking(None, kind="edit", title="a", content=[change]).of(RequestOpened)
    assert "-x\n+y\n" in opened.body.diff and opened.body.rules[0] == "edit(a)"


def test_the_agents_own_tools_need_no_permission():
    """Where the CLI has them; by the whole title, and only for a call of no kind, as these are. A server of the user
    that has another name is not taken for the agent's."""
    call, server = {"kind": "other", "title": "ask_operator (onsembl-1a MCP Server)"}, {"name": "onsembl-1a"}
    own = GEMINI.own_tools("onsembl-1a")
    assert "mcp__onsembl-1a__ask_operator" in KNOWN["claude-agent-acp"].own_tools("onsembl-1a")
    assert not KNOWN["opencode"].own_tools("onsembl-1a"), "its titles are not known"
    allowed = asking(None, servers=(server,), own_tools=own, **call)
    assert answers(allowed) == [{"outcome": "selected", "optionId": "allow_once"}] and not allowed.of(RequestOpened)
    opening = next(line for line in allowed.sent if line.get("method") == "session/new")
    assert opening["params"]["mcpServers"] == [server]
    titles = ("ask_operator (onsembl MCP Server)", f"{call['title']} ", "x (onsembl-1a MCP Server)")
    for other in ({**call, "kind": "execute"}, *({**call, "title": title} for title in titles)):
        assert len(asking(None, servers=(server,), own_tools=own, **other).of(RequestOpened)) == 1
    assert len(asking(None, servers=(), own_tools=(), **call).of(RequestOpened)) == 1
