"""Claude Code's protocol, as recorded from the versions 2.1.197 and 2.1.332, and with unknown or invalid lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.decisions import UNASKED, decided

from onsembl.agent.drivers.claude.outcomes import BEGIN_ANEW
from onsembl.agent.drivers.claude.tool_permissions import own_tools
from onsembl.agent.drivers.claude.translator import ClaudeTranslator
from onsembl.agent.drivers.start_failure import with_doctor
from onsembl.agent.drivers.turn_run import NOBODY_TO_ASK
from onsembl.protocol.attention_messages import (
    Allow,
    Answers,
    Decision,
    Deny,
    FilledForm,
    FormBody,
    PermissionBody,
    PlanBody,
    QuestionAnswer,
    QuestionBody,
)
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.request_events import RequestOpened, RequestWithdrawn
from onsembl.protocol.tool_rules import ToolRules
from onsembl.protocol.turn_events import (
    BackgroundSubagents,
    Diff,
    MessageChunk,
    Notice,
    PermissionDenied,
    Plan,
    Steered,
    ToolCall,
    ToolCallEnded,
    TurnEnded,
    TurnEvent,
)
from onsembl.protocol.turn_messages import TurnReport
from onsembl.protocol.usage import Usage, usage_of

HERE = Path(__file__).parent


def recorded(name: str) -> bytes:
    """The output of a recorded run, as the CLI wrote it."""
    path = HERE / "transcripts" / f"{name}.jsonl"
    if path.exists():
        return path.read_bytes()
    lines = map(json.loads, (HERE / "recordings" / f"claude-{name}.jsonl").read_text().splitlines())
    return output(*(line["msg"] for line in lines if line["dir"] == "out"))


def output(*lines: object) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


NAMES = sorted(path.stem for path in (HERE / "transcripts").glob("*.jsonl"))
NAMES += sorted(path.stem.removeprefix("claude-") for path in (HERE / "recordings").glob("claude-*.jsonl"))


def translator(prompt: str = "the prompt", mode: PermissionMode | None = None) -> ClaudeTranslator:
    return ClaudeTranslator(prompt, uuid4(), mode)


def translate(data: bytes, size: int = 2**30) -> tuple[list[TurnEvent], ClaudeTranslator]:
    """The events of output that arrives in pieces of this size. Nobody can be asked. A recording in which the CLI asks
    arrives line by line at most, for there the CLI waits."""
    run = translator()
    waits = b"can_use_tool" in data
    pieces = [
        part
        for at in range(0, len(data), size)
        for part in (data[at : at + size].splitlines(keepends=True) if waits else [data[at : at + size]])
    ]
    events = [event for piece in pieces for event in decided(run, run.receive(piece))]
    return [*events, *decided(run, run.end())], run


def sent(run: ClaudeTranslator) -> list[dict]:
    """The lines for the CLI's input since the last call."""
    return [json.loads(line) for line in run.take_input().splitlines()]


def of_type(events: list[TurnEvent], kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


def message(identity: str, *content: object, **usage: int) -> dict:
    return {"type": "assistant", "message": {"id": identity, "content": list(content), "usage": usage}}


def call(name: str, identity: str = "t", **arguments: object) -> dict:
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments}


def result(**fields: object) -> dict:
    return {"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, **fields}


@pytest.mark.parametrize("name", NAMES)
def test_the_pieces_in_which_the_output_comes_make_no_difference(name):
    """A line may be cut at any byte, even within a character."""
    whole, run = translate(recorded(name))
    for size in (7, 4096):
        events, other = translate(recorded(name), size)
        assert (events, other.usage, other.error) == (whole, run.usage, run.error)


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_line_is_known(name):
    """No line of a recorded run is of an unknown type."""
    assert translate(recorded(name))[1].unknown == 0


@pytest.mark.parametrize(
    ("name", "outcome", "error", "tokens", "cost"),
    [
        ("tool", "completed", None, (200, 32), 0.0018),
        ("tool_fails", "completed", None, (200, 28), None),
        ("refused", "completed", None, (200, 50), None),
        ("api_error", "failed", "API Error: 400 scripted failure", (0, 0), 0),
        ("interrupted", "interrupted", "The turn was interrupted.", (100, 1), None),
        ("tool_interrupted", "interrupted", "The turn was interrupted.", (100, 5), None),
        ("tasks", "completed", None, (600, 12), 0.0033),
        ("text", "completed", None, (100, 7), 0.000405),
        ("parallel", "completed", None, (500, 531), 0.00959),
        ("subagent", "completed", None, (900, 2111), 0.034365),
        ("two-open", "completed", None, (800, 926), 0.01629),
        ("deny", "completed", None, (400, 50), 0.00195),
        ("budget", "over_budget", "Reached maximum budget ($0.02)", (200, 3000), 0.0456),
        ("errors", "failed", "API Error: 400 scripted failure", (200, 14), 0.00081),
        ("cut-stream", "completed", None, (300, 29), 0.001335),
        ("usage-partial", "completed", None, (9000, 1500), 0.0495),
    ],
)
def test_the_end_of_a_run_is_known(name, outcome, error, tokens, cost):
    """The outcome, the error and the usage of a recorded run; the usage of several turns is summed."""
    _, run = translate(recorded(name))
    assert (run.outcome, run.error) == (outcome, error)
    assert run.usage is not None
    assert (run.usage.input_tokens, run.usage.output_tokens) == tokens
    if cost is not None:
        assert run.usage.cost_usd == pytest.approx(cost)


def test_the_prompt_is_sent_when_its_permission_mode_is_in_force():
    """Before the CLI has confirmed the mode, it gets no prompt; a mode that it refuses ends the run."""
    run = translator("do it", "ask")
    initialize, set_mode = sent(run)
    assert initialize["request"]["subtype"] == "initialize"
    assert set_mode["request"] == {"subtype": "set_permission_mode", "mode": "default"}
    answer = {"request_id": set_mode["request_id"], "subtype": "success", "response": {"mode": "default"}}
    run.receive(output({"type": "control_response", "response": answer}))
    assert [line["message"]["content"] for line in sent(run)] == ["do it"]

    run = translator("do it", "ask")
    sent(run)
    run.receive(output({"type": "control_response", "response": {**answer, "subtype": "error", "error": "no"}}))
    assert (run.outcome, run.error) == ("failed", "Claude Code refused the permission mode ask: no")
    assert sent(run) == []
    assert run.input_complete


@pytest.mark.parametrize(
    ("mode", "reported", "stopped"),
    [
        ("plan", "plan", False),
        ("plan", "default", True),
        ("ask", "default", False),
        ("ask", "manual", False),
        ("ask", "plan", False),
        ("ask", "acceptEdits", True),
        ("accept_edits", "default", False),
        ("auto", "bypassPermissions", True),
        ("full", "bypassPermissions", False),
        ("full", "newMode", True),
        (None, "bypassPermissions", False),
    ],
)
def test_a_mode_that_goes_further_than_the_command_may_ends_the_turn(mode, reported, stopped):
    """The CLI's own name of its mode decides: settings of a machine or a repository may have changed it."""
    run = translator("do it", mode)
    run.take_input()
    events = run.receive(output({"type": "system", "subtype": "init", "permissionMode": reported}))
    assert [line["request"]["subtype"] for line in sent(run)] == (["interrupt"] if stopped else [])
    assert len(of_type(events, Notice)) == stopped
    run.receive(output(result(is_error=True, terminal_reason="aborted_streaming")))
    assert (run.outcome == "failed") == stopped
    if stopped:
        assert run.error == f"Stopped: Claude Code goes further ({reported}) than the permission mode {mode}."


def test_a_question_for_permission_is_denied():
    """Nobody can be asked: the CLI is told so at once, and the denial is an event, once."""
    run = translator()
    sent(run)
    request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "rm x"}, "tool_use_id": "t"}
    denied = [{"tool_name": "Bash", "tool_use_id": "t", "tool_input": {"command": "rm x"}}]
    events = decided(run, run.receive(output({"type": "control_request", "request_id": "r", "request": request})))
    events += run.receive(output(result(permission_denials=denied)))
    [answer] = sent(run)
    assert answer["response"]["request_id"] == "r"
    assert answer["response"]["response"] == {"behavior": "deny", "message": NOBODY_TO_ASK}
    assert of_type(events, PermissionDenied) == [
        PermissionDenied(tool_call="t", name="Bash", title="rm x", reason="nobody could be asked")
    ]


def test_an_unknown_request_is_answered_with_an_error():
    """The CLI does not wait for an answer that never comes."""
    run = translator()
    sent(run)
    run.receive(output({"type": "control_request", "request_id": "r", "request": {"subtype": "new_in_3_0"}}))
    [answer] = sent(run)
    assert (answer["response"]["subtype"], answer["response"]["request_id"]) == ("error", "r")


def test_an_interrupt_cancels_queued_messages_too():
    """The interrupt is a control request; the conversation stays."""
    run = translator()
    sent(run)
    run.interrupt()
    assert [line["request"] for line in sent(run)] == [{"subtype": "interrupt", "cancel_queued": True}]


def test_an_interrupt_before_the_prompt_holds_it_back():
    """A turn that is cancelled while the CLI starts costs nothing: the prompt is not sent, and the CLI ends."""
    run = translator("do it", "ask")
    _, set_mode = sent(run)
    run.interrupt()
    assert [line["request"]["subtype"] for line in sent(run)] == ["interrupt"]
    assert not run.input_complete
    answer = {"request_id": set_mode["request_id"], "subtype": "success", "response": {"mode": "default"}}
    events = run.receive(output({"type": "control_response", "response": answer}))
    assert [event.outcome for event in of_type(events, TurnEnded)] == ["interrupted"]
    assert sent(run) == []
    assert run.input_complete


def test_the_input_ends_after_the_last_turn_and_its_subagents():
    """While a subagent works in the background, the CLI can still ask."""
    run = translator()
    started = {"type": "system", "subtype": "task_started", "task_id": "s", "task_type": "local_agent"}
    shell = {"type": "system", "subtype": "task_started", "task_id": "b", "task_type": "local_bash"}
    for line, complete in [
        ({"type": "system", "subtype": "init"}, False),
        (started, False),
        (shell, False),
        (result(), False),
        ({"type": "system", "subtype": "task_notification", "task_id": "s", "status": "completed"}, True),
        ({"type": "system", "subtype": "init"}, False),
        (result(queued_turn_count=1), False),
        (result(), True),
    ]:
        run.receive(output(line))
        assert run.input_complete == complete, line


def test_subagents_in_the_background_are_told():
    """Each time that they change, by the tool calls that started them; one in the foreground is its tool call."""
    run = translator()
    started = {"type": "system", "subtype": "task_started", "task_type": "local_agent"}
    over = {"type": "system", "subtype": "background_tasks_changed", "tasks": []}
    lines = [
        {**started, "task_id": "f", "tool_use_id": "foreground", "is_backgrounded": False},
        {**started, "task_id": "b", "tool_use_id": "call", "is_backgrounded": True},
        {"type": "keep_alive"},
        over,
    ]
    events = [of_type(run.receive(output(line)), BackgroundSubagents) for line in lines]
    assert [[event.tool_calls for event in told] for told in events] == [[], [["call"]], [], [[]]]


def test_shell_commands_in_the_background_are_named_at_the_end():
    """They end when the CLI ends: the terminal names those that still run."""

    def started(identity: str, text: str) -> dict:
        fields = {"task_id": identity, "task_type": "local_bash", "description": text}
        return {"type": "system", "subtype": "task_started", **fields}

    updated = {"type": "system", "subtype": "task_updated", "task_id": "a", "patch": {"status": "completed"}}
    events, _ = translate(output(started("a", "make"), started("b", "npm run dev"), updated, result()))
    assert of_type(events, Notice) == [Notice(kind="background", text="This ends with the command: npm run dev")]


@pytest.mark.parametrize(
    ("results", "outcome", "turns"),
    [
        ([result(is_error=True, result="bad"), result()], "completed", 2),
        ([result(), result(is_error=True, num_turns=0, result="spurious")], "completed", 1),
        ([result(), result(is_error=True, result="bad")], "failed", 2),
        ([result(is_error=True, num_turns=0, result="bad")], "failed", 0),
        ([result(num_turns=3), result(num_turns=0)], "completed", 3),
    ],
)
def test_the_outcome_is_of_the_last_turn_that_did_something(results, outcome, turns):
    """Of several results, an error with no turns does not undo a good one; turns are summed."""
    _, run = translate(output(*results))
    assert (run.outcome, run.usage and run.usage.turns) == (outcome, turns)


def test_an_answer_is_told_once_whether_or_not_it_came_in_pieces():
    """Without partial messages the same texts are told."""

    def text(data: bytes) -> str:
        return "".join(event.text for event in of_type(translate(data)[0], MessageChunk))

    for name in ("tool", "words", "usage-partial"):
        lines = recorded(name).splitlines(keepends=True)
        assert text(b"".join(line for line in lines if b"stream_event" not in line)) == text(recorded(name))


def test_usage_is_counted_once_a_message():
    """The usage of a message that comes in several lines is counted once, by its highest numbers."""
    text = {"type": "text", "text": "x"}
    _, run = translate(
        output(
            message("a", text, input_tokens=10, output_tokens=1),
            message("a", text, input_tokens=10, output_tokens=5, cache_read_input_tokens=3),
            message("b", text, input_tokens=20, output_tokens=2),
        )
    )
    assert run.usage == usage_of({"": (30, 7, 3, 0)}, model=None, turns=None)


def models(**parts: tuple[int, int, int, int, float]) -> dict:
    """The usage of each model, as a result reports it."""
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens", "costUSD")
    return {name: dict(zip(names, part, strict=True)) for name, part in parts.items()}


def parts(run) -> dict[str, tuple[tuple[int, ...], float | None]]:
    """The counts and the cost of each model."""
    assert run.usage is not None
    return {part.model: (part.counts, part.cost_usd) for part in run.usage.models}


def test_each_model_has_its_part():
    """Subagents with another model are apart, over several turns, and an answer that was cut counts to the model that
    wrote it."""
    text = {"type": "text", "text": "x"}
    cut = message("c", text, input_tokens=7, output_tokens=2)
    cut["message"]["model"] = "large"
    _, run = translate(
        output(
            message("a", text, input_tokens=10, output_tokens=1),
            result(model_usage_since_last_result=models(large=(10, 5, 90, 3, 0.5), small=(4, 2, 0, 0, 0.01))),
            result(model_usage_since_last_result=models(large=(1, 1, 0, 0, 0.25))),
            cut,
            result(usage={"input_tokens": 0}, is_error=True, subtype="error_during_execution"),
        )
    )
    assert parts(run) == {"large": ((18, 8, 90, 3), 0.75), "small": ((4, 2, 0, 0), 0.01)}
    assert run.usage.counts == (22, 10, 90, 3)
    assert run.usage.cost_usd == pytest.approx(0.76)


def test_sums_that_grow_over_the_run_count_once_a_model():
    """An older CLI reports the sums of the whole run in each result."""
    _, run = translate(
        output(
            result(modelUsage=models(large=(10, 5, 0, 0, 0.5)), total_cost_usd=0.5),
            result(modelUsage=models(large=(12, 6, 0, 0, 0.6), small=(1, 1, 0, 0, 0.1)), total_cost_usd=0.7),
        )
    )
    assert parts(run) == {"large": ((12, 6, 0, 0), 0.6), "small": ((1, 1, 0, 0), 0.1)}


def test_a_model_with_two_names_counts_once():
    """The messages name a model by an alias, the result by its full name: the tokens are the same ones."""
    alias = message("a", {"type": "text", "text": "x"}, input_tokens=10, output_tokens=5)
    alias["message"]["model"] = "large"
    _, run = translate(
        output(alias, result(model_usage_since_last_result=models(**{"large-20990101": (10, 5, 0, 0, 1)})))
    )
    assert parts(run) == {"large-20990101": ((10, 5, 0, 0), 1.0)}


def test_costs_that_grow_over_the_run_are_not_added_up():
    """An older CLI reports the cost of the whole run in each result."""
    _, run = translate(output(result(total_cost_usd=0.25), result(total_cost_usd=0.75)))
    assert run.usage is not None
    assert run.usage.cost_usd == pytest.approx(0.75)


def test_without_a_word_of_usage_there_is_none():
    """Without a report of usage the usage is None, not zero."""
    assert translate(b"")[1].usage is None
    assert translate(output({"type": "system", "subtype": "init", "model": "m"}))[1].usage is None


def test_tools_are_told_in_the_terms_of_the_protocol():
    """A tool's kind, its main argument, its changes."""
    events, _ = translate(
        output(
            message("a", call("Bash", command="ls", description="List")),
            message("b", call("Edit", file_path="/a", old_string="x", new_string="y")),
            message("c", call("Write", file_path="/b", content="z")),
            message("d", call("mcp__odd__tool", n=1)),
        )
    )
    calls = of_type(events, ToolCall)
    assert [(made.kind, made.title) for made in calls] == [
        ("execute", "ls"),
        ("edit", "/a"),
        ("edit", "/b"),
        ("other", '{"n":1}'),
    ]
    assert [made.diffs for made in calls][1:3] == [
        [Diff(path="/a", old="x", new="y")],
        [Diff(path="/b", old=None, new="z")],
    ]


def plans(events: list[TurnEvent]) -> list[list[tuple[str, str]]]:
    return [[(entry.content, entry.status) for entry in plan.entries] for plan in of_type(events, Plan)]


def test_tasks_are_told_as_a_plan():
    """Tasks that are written one after the other make one plan. The calls that write them are not told, the others and
    those that fail are."""
    events, _ = translate(recorded("tasks"))
    assert plans(events) == [
        [("first", "in_progress"), ("second", "pending")],
        [("first", "completed"), ("second", "pending")],
    ]
    assert [(made.name, made.kind) for made in of_type(events, ToolCall)] == [
        ("Bash", "execute"),
        ("TaskUpdate", "think"),
        ("TaskList", "think"),
    ]
    assert [made.text for made in of_type(events, ToolCallEnded)][:2] == ["done", "Task not found"]


def test_a_list_of_tasks_is_written_as_a_whole_by_older_versions():
    """It is told when it is written, and not when that fails."""
    todos = [{"content": "one", "status": "completed"}, {"content": "two", "status": "odd"}]
    written = {"type": "tool_result", "tool_use_id": "a", "content": "Todos have been modified successfully."}
    failed = {"type": "tool_result", "tool_use_id": "b", "content": "No such tool", "is_error": True}
    events, _ = translate(
        output(
            message("a", call("TodoWrite", "a", todos=todos)),
            {"type": "user", "message": {"content": [written]}, "tool_use_result": {"oldTodos": [], "newTodos": todos}},
            message("b", call("TodoWrite", "b", todos=[])),
            {"type": "user", "message": {"content": [failed]}, "tool_use_result": "Error: No such tool"},
        )
    )
    assert plans(events) == [[("one", "completed"), ("two", "pending")]]
    assert [made.id for made in of_type(events, ToolCall)] == ["b"]


def test_a_resumed_conversation_learns_its_tasks():
    """A task of an earlier run has its number until the CLI lists the tasks; a deleted one is gone."""
    run = translator()

    def call_tool(name: str, answer: dict, **arguments: object) -> list[TurnEvent]:
        ended = {"type": "tool_result", "tool_use_id": name, "content": "x"}
        line = {"type": "user", "message": {"content": [ended]}, "tool_use_result": answer}
        return run.receive(
            output(message("m", call(name, name, **arguments)), line, message("n", {"type": "text", "text": "…"}))
        )

    done = call_tool("TaskUpdate", {"success": True}, taskId="2", status="completed")
    assert plans(done) == [[("Task 2", "completed")]]
    listed = [{"id": "1", "subject": "old", "status": "pending"}, {"id": "2", "subject": "new", "status": "completed"}]
    assert plans(call_tool("TaskList", {"tasks": listed})) == [[("old", "pending"), ("new", "completed")]]
    assert plans(call_tool("TaskUpdate", {"success": True}, taskId="1", status="deleted")) == [[("new", "completed")]]
    assert plans(call_tool("TaskUpdate", {"success": True}, taskId="2", subject="newer")) == [[("newer", "completed")]]
    assert plans(call_tool("TaskUpdate", {"success": True}, taskId="2", owner="me")) == []


def test_a_result_of_a_tool_has_its_text_and_its_images():
    """An image is described by its type and size."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 4000}}
    content = [{"type": "text", "text": "one"}, image, {"type": "text", "text": "two"}]
    block = {"type": "tool_result", "tool_use_id": "t", "content": content, "is_error": True}
    events, _ = translate(output({"type": "user", "message": {"content": [block]}}))
    assert events == [ToolCallEnded(id="t", status="failed", text="one\ntwo", images=["image/png, 3,000 bytes"])]


def test_events_of_a_subagent_name_its_call():
    """The whole messages of a subagent come once, below the call that started it."""
    events, _ = translate(recorded("subagent"))
    calls = of_type(events, ToolCall)
    subagents = [call.id for call in calls if call.name == "Agent"]
    assert [call.parent for call in calls if call.name == "Bash"] == subagents
    assert [event.parent for event in of_type(events, PermissionDenied)] == subagents
    assert {call.parent for call in calls if call.name == "Agent"} == {None}


def test_what_the_cli_says_of_itself_is_a_notice():
    """Retries, compactions, rate limits and changes of the mode are told."""
    events, run = translate(
        output(
            {"type": "system", "subtype": "api_retry", "attempt": 2, "max_retries": 10, "retry_delay_ms": 1500},
            {"type": "system", "subtype": "compact_boundary"},
            {"type": "system", "subtype": "status", "permissionMode": "acceptEdits"},
            {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed_warning"}},
            {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}},
            {"type": "new_in_3_0"},
        )
    )
    assert [notice.kind for notice in of_type(events, Notice)] == [
        "retry",
        "compaction",
        "permission_mode",
        "rate_limit",
    ]
    assert of_type(events, Notice)[0].text == "The model's API failed (the connection was cut). Retry 2 of 10 in 1.5 s."
    assert run.unknown == 1


def test_the_error_of_a_cli_that_dies_after_it_is_kept():
    """An error text without a result is the error of the run."""
    line = {**message("a", {"type": "text", "text": "Credit balance is too low"}), "error": "billing_error"}
    _, run = translate(output(line))
    assert run.outcome is None
    assert run.error is not None
    assert run.error.startswith("Credit balance is too low. Add credit")


@pytest.mark.parametrize(
    ("text", "kind", "mend"),
    [
        ("Credit balance is too low", "billing_error", "Add credit to the account of the agent's CLI"),
        ("Prompt is too long", "invalid_request", "onsembl conversations anew"),
        (
            "There's an issue with the selected model (x). Run --model to pick another.",
            "model_not_found",
            "Run --model",
        ),
    ],
)
def test_an_error_of_the_account_or_the_conversation_says_what_to_do(text, kind, mend):
    """With a result and without one, in the length that the command's error has."""
    line = {**message("a", {"type": "text", "text": text}), "error": kind}
    failed = {"type": "result", "subtype": "success", "is_error": True, "num_turns": 1, "result": text}
    for lines in ((line,), (line, failed)):
        error = translate(output(*lines))[1].error
        assert error is not None
        assert error.startswith(text.split(".")[0])
        assert mend in error
        assert len(error) <= 256


def test_a_cli_that_is_not_signed_in_names_the_doctor():
    """With a result and without one; the next turn's error is its own."""
    text = "Not logged in · Please run /login"
    line = {**message("a", {"type": "text", "text": text}), "error": "authentication_failed"}
    failed = {"type": "result", "subtype": "success", "is_error": True, "num_turns": 1, "result": text}
    assert translate(output(line))[1].error == with_doctor(text)
    assert translate(output(line, failed))[1].error == with_doctor(text)
    assert translate(output(line, failed, {**failed, "result": "other"}))[1].error == "other"
    assert "onsembl agent doctor" in with_doctor(text)


def test_the_conversation_is_reported():
    """The report names the conversation, the model, the folder, the use of the context, and what was denied."""
    report = translate(recorded("nobody-to-ask"))[1].report
    assert (report.model, report.folder, report.permission_mode) == (
        "claude-sonnet-4-5",
        "/home/dev/project",
        "default",
    )
    assert (report.context_tokens, report.context_window) == (101, 200_000)
    assert (report.denied, [denial.title for denial in report.denials]) == (1, ["touch none.txt"])
    assert not report.forgotten


def test_a_forgotten_conversation_is_reported():
    """The CLI does not know the id: the error says what to do."""
    for name in ("resume-unknown", "forgotten"):
        _, run = translate(recorded(name))
        assert run.report.forgotten
        assert run.error == f"Claude Code does not know this conversation any more. {BEGIN_ANEW}"


def test_many_denials_are_counted():
    """A report has the first of them; their texts are bounded and printable."""
    denials = [
        {"tool_name": "Bash", "tool_use_id": str(n), "tool_input": {"command": "\x1b[2J" + "x" * 500}}
        for n in range(50)
    ]
    report = translate(output(result(permission_denials=denials)))[1].report
    assert (report.denied, len(report.denials)) == (50, 20)
    assert msgspec.json.decode(msgspec.json.encode(report), type=TurnReport) == report
    assert report.denials[0].title == "x" * 256


def places(value: object) -> list[tuple[dict | list, str | int]]:
    """Every position in a JSON value at which another value could be."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in inner for found in [(value, key), *places(part)]]


RECORDED = [line for name in NAMES for line in recorded(name).splitlines() if len(line) < 3000]
OTHER = [None, True, -1, 2**70, 0.5, "", "x\x1b[31m", [], [None], ["x"], {}, {"type": "text"}]


@example([(output(result(num_turns=1, duration_ms=1)).strip(), 3, True)])
@example([(output(result(num_turns=1, duration_ms=1)).strip(), 4, 2**70)])
@given(st.lists(st.tuples(st.sampled_from(RECORDED), st.integers(0, 200), st.sampled_from(OTHER)), max_size=4))
def test_nothing_that_a_later_version_says_breaks_it(changes):
    """A field of an unexpected type or value still gives valid events, and leaves the usage valid."""
    lines = []
    for line, place, value in changes:
        lines.append(json.loads(line))
        found = places(lines[-1])
        holder, key = found[place % len(found)]
        holder[key] = value
    events, run = translate(output(*lines))
    assert [msgspec.json.decode(msgspec.json.encode(event), type=type(event)) for event in events] == events
    assert isinstance(run.error, str | None)
    if run.usage is not None:
        assert msgspec.json.decode(msgspec.json.encode(run.usage), type=Usage) == run.usage
        counts = zip(*(part.counts for part in run.usage.models), strict=True)
        assert tuple(map(sum, counts)) in (run.usage.counts, ()), "the models' parts are all of it"


# Texts that are sent into the running turn

RESULT = {"type": "result", "subtype": "success", "is_error": False, "num_turns": 1}
INIT = {"type": "system", "subtype": "init", "session_id": "a", "permissionMode": "default"}


def replay(steer_id: UUID, text: str) -> dict:
    """The line with which the CLI takes a text."""
    return {"type": "user", "message": {"role": "user", "content": text}, "uuid": str(steer_id), "isReplay": True}


def test_a_text_is_taken_in_a_tool():
    """The CLI repeats the text after the tool's result: it is in the turn, which has one result."""
    run, steer_id = translator(), uuid4()
    run.receive(output(INIT))
    run.take_input()
    run.steer(steer_id, "and this")
    assert [line["uuid"] for line in map(json.loads, run.take_input().splitlines())] == [str(steer_id)]
    assert run.receive(output(replay(steer_id, "and this"))) == [Steered(id=steer_id, text="and this")]
    assert run.receive(output(replay(steer_id, "and this"))) == []
    assert not run.input_complete
    run.receive(output(RESULT))
    assert run.input_complete


def test_a_text_is_taken_after_an_answer():
    """The input stays open after the first result, and the turn of the text counts, too."""
    run, steer_id = translator(), uuid4()
    run.receive(output(INIT))
    run.steer(steer_id, "and this")
    run.receive(output(RESULT))
    assert run.idle
    assert not run.input_complete
    assert run.receive(output(INIT, replay(steer_id, "and this")))[-1] == Steered(id=steer_id, text="and this")
    assert not run.idle
    run.receive(output(RESULT))
    assert run.input_complete
    assert run.usage is not None
    assert run.usage.turns == 2


@pytest.mark.parametrize(
    "line",
    [
        {"type": "control_response", "response": {"subtype": "success", "response": {"cancelled": ["ID"]}}},
        {"type": "command_lifecycle", "command_uuid": "ID", "state": "cancelled"},
    ],
)
def test_a_text_that_the_interrupt_has_cancelled_is_not_waited_for(line):
    """Newer versions say that they have dropped it."""
    run, steer_id = translator(), uuid4()
    run.receive(output(INIT))
    run.steer(steer_id, "and this")
    run.interrupt()
    run.receive(output(RESULT, json.loads(json.dumps(line).replace("ID", str(steer_id)))))
    assert run.input_complete


def test_a_text_that_is_taken_after_the_interrupt_is_interrupted():
    """Older versions begin a turn for a text that waited at the interrupt."""
    run, steer_id = translator(), uuid4()
    run.receive(output(INIT))
    run.steer(steer_id, "and this")
    run.interrupt()
    run.take_input()
    run.receive(output(RESULT, INIT, replay(steer_id, "and this")))
    assert [json.loads(line)["request"]["subtype"] for line in run.take_input().splitlines()] == ["interrupt"]


def test_a_text_waits_until_the_prompt_is_sent():
    """A text that comes while the permission mode is set goes behind the prompt."""
    run, steer_id = translator("first", "ask"), uuid4()
    run.steer(steer_id, "second")
    sent = [json.loads(line) for line in run.take_input().splitlines()]
    assert [line["type"] for line in sent] == ["control_request", "control_request"]
    run.receive(output({"type": "control_response", "response": {"subtype": "success", "request_id": "onsembl-2"}}))
    sent = [json.loads(line)["message"]["content"] for line in run.take_input().splitlines()]
    assert sent == ["first", "second"]


@given(
    steps=st.lists(
        st.sampled_from(["steer", "take", "start", "take again", "result", "init", "noise", "interrupt", "drop"]),
        max_size=30,
    )
)
def test_each_text_is_given_once_and_taken_once(steps):
    """In any order of events: the CLI gets each text once, each is reported once, and the input stays open for it."""
    run = translator()
    given: list[UUID] = []
    waiting: list[UUID] = []
    taken: list[UUID] = []
    events: list[TurnEvent] = []
    for step in steps:
        match step:
            case "steer":
                given.append(uuid4())
                waiting.append(given[-1])
                run.steer(given[-1], "text")
            case "take" if waiting:
                taken.append(waiting.pop(0))
                events += run.receive(output(replay(taken[-1], "text")))
            case "start" if waiting:
                taken.append(waiting.pop(0))
                line = {"type": "command_lifecycle", "command_uuid": str(taken[-1]), "state": "started"}
                events += run.receive(output(line, {**line, "state": "completed"}, replay(taken[-1], "text")))
            case "take again" if taken:
                events += run.receive(output(replay(taken[-1], "text")))
            case "result":
                events += run.receive(output(RESULT))
            case "init":
                events += run.receive(output(INIT))
            case "noise":
                events += run.receive(output(replay(uuid4(), "text"), {"type": "user", "isReplay": True, "uuid": 5}))
            case "interrupt":
                run.interrupt()
            case "drop":
                run.drop_steers()
                waiting.clear()
            case _:
                pass
        assert not (waiting and run.input_complete)
    sent = [json.loads(line) for line in run.take_input().splitlines()]
    assert [line["uuid"] for line in sent if line["type"] == "user"][1:] == [str(steer_id) for steer_id in given]
    assert [event.id for event in events if isinstance(event, Steered)] == taken


def with_rules(allow: Sequence[str] = (), deny: Sequence[str] = (), mode: PermissionMode = "full") -> ClaudeTranslator:
    return ClaudeTranslator("p", uuid4(), mode, ToolRules(allow=list(allow), deny=list(deny)), "/work")


def asked(
    run: ClaudeTranslator, subtype: str, name: str, decision: Decision = UNASKED, **arguments: object
) -> tuple[dict, list[TurnEvent]]:
    """The answer to a question about a call, and its events. A person who is asked gives this decision."""
    identity = str(uuid4())
    run.receive(output(message("a", {"type": "tool_use", "id": identity, "name": name, "input": arguments})))
    sent(run)
    if subtype == "hook_callback":
        call = {"tool_name": name, "tool_input": arguments, "tool_use_id": identity}
        request = {"subtype": subtype, "callback_id": "before_tool", "input": call}
    else:
        request = {"subtype": subtype, "tool_name": name, "input": arguments, "tool_use_id": identity}
    events = run.receive(output({"type": "control_request", "request_id": "r", "request": request}))
    opened = of_type(events, RequestOpened)
    events = [*opened, *decided(run, events, decision, "by anna")]
    [answer] = sent(run)
    return answer["response"]["response"], events


def test_a_rule_answers_for_a_person():
    """An allowed call goes on with its own arguments and is marked; a denied one is told by which rule."""
    run = with_rules(["Bash(git *)"], ["Bash(git push*)"])
    answer, events = asked(run, "can_use_tool", "Bash", command="git log")
    assert answer == {"behavior": "allow", "updatedInput": {"command": "git log"}}
    assert events == [Notice(kind="permission_mode", text="Allowed by rule Bash(git *): Bash git log")]
    answer, events = asked(run, "can_use_tool", "Bash", command="git push")
    assert answer["behavior"] == "deny"
    assert [event.reason for event in of_type(events, PermissionDenied)] == ["by rule Bash(git push*)"]
    answer, _ = asked(run, "can_use_tool", "Bash", command="make")
    assert answer == {"behavior": "deny", "message": NOBODY_TO_ASK}


def test_no_rule_answers_what_a_person_is_asked():
    """A plan and a question are not approved by a rule."""
    for name in ("ExitPlanMode", "AskUserQuestion"):
        answer, _ = asked(with_rules(["*"]), "can_use_tool", name)
        assert answer["behavior"] == "deny"


def test_denials_hold_before_the_cli_decides():
    """The CLI asks before each tool call, in every permission mode; what is not denied goes its usual way."""
    run = with_rules(deny=["edit"])
    hooks = sent(run)[0]["request"]["hooks"]
    assert hooks == {"PreToolUse": [{"matcher": None, "hookCallbackIds": ["before_tool"]}]}
    answer, events = asked(run, "hook_callback", "Write", file_path="a", content="x")
    assert answer["hookSpecificOutput"]["permissionDecision"] == "deny"
    assert [(event.name, event.title) for event in of_type(events, PermissionDenied)] == [("Write", "a")]
    assert asked(run, "hook_callback", "Bash", command="ls") == ({}, [])
    assert run.report.denied == 1
    assert sent(with_rules(["Bash"]))[0]["request"]["hooks"] is None, "without a denial nothing is asked"


def test_a_tool_that_ran_unasked_ends_the_turn():
    """Where a policy of the machine shuts off hooks, a denial could not hold: the turn is interrupted and fails."""
    call = message("a", {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}})
    done = {"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}}
    failed = {"type": "user", "message": {"content": [{**done["message"]["content"][0], "is_error": True}]}}
    run = with_rules(deny=["Write"])
    sent(run)
    run.receive(output(call, failed))
    assert sent(run) == [], "a call that did not run was not to be asked about"
    run.receive(output(call, done))
    assert [line["request"]["subtype"] for line in sent(run)] == ["interrupt"]
    run.receive(output(result(is_error=True, terminal_reason="aborted_tools")))
    assert (run.outcome, run.error) == ("failed", "Stopped: Claude Code ran a tool before the rules could deny it: ls")

    run = with_rules(deny=["Write"])
    hook = {"tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_use_id": "t"}
    request = {"subtype": "hook_callback", "callback_id": "before_tool", "input": hook}
    run.receive(output(call, {"type": "control_request", "request_id": "r", "request": request}))
    sent(run)
    run.receive(output(done))
    assert sent(run) == []


def test_a_denial_is_told_with_its_call():
    """The CLI shows the calls of a subagent after it has asked about them: the denial follows its call, once, and at
    the latest the end of the turn."""
    run = with_rules(deny=["Bash"])
    hook = {"tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_use_id": "t"}
    request = {"subtype": "hook_callback", "callback_id": "before_tool", "input": hook}
    question = {"type": "control_request", "request_id": "r", "request": request}
    call = message("a", {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}})
    assert run.receive(output(question)) == []
    assert run.report.denied == 1
    events = run.receive(output({**call, "parent_tool_use_id": "agent"}))
    assert [(type(event), event.parent) for event in events] == [(ToolCall, "agent"), (PermissionDenied, "agent")]
    run = with_rules(deny=["Bash"])
    assert len(of_type(run.receive(output(question, result())), PermissionDenied)) == 1


def test_a_person_is_asked():
    """About a call that no rule decides: with all of its arguments, the change of files, and rules that would allow it.
    The answer goes to the CLI in its own words."""
    run = with_rules(deny=["Bash(rm *)"], mode="ask")
    answer, [opened, *others] = asked(run, "can_use_tool", "Bash", Allow(), command="touch a")
    assert answer == {"behavior": "allow", "updatedInput": {"command": "touch a"}} and others == []
    assert isinstance(opened.body, PermissionBody)
    assert (opened.title, opened.body.tool, opened.body.tool_kind) == ("Bash touch a", "Bash", "execute")
    assert (opened.body.folder, opened.body.input, opened.body.parts) == (
        *("/work", '{"command":"touch a"}', [["touch a"]]),
    )
    assert opened.body.rules == ["Bash(touch a)", "Bash(touch *)", "Bash"]
    answer, [opened] = asked(run, "can_use_tool", "Bash", Allow(input='{"command":"touch b"}'), command="touch a")
    assert opened.body.editable and answer["updatedInput"] == {"command": "touch b"}
    answer, [_, denied] = asked(run, "can_use_tool", "Bash", Allow(input='{"command":"rm b"}'), command="touch a")
    assert (answer["behavior"], denied.reason) == ("deny", "by rule Bash(rm *)")
    answer, [_, denied] = asked(run, "can_use_tool", "Bash", Deny(reason="Not on a Friday."), command="touch a")
    assert answer == {"behavior": "deny", "message": "Not on a Friday."} and denied.reason == "by anna"
    answer, [opened, _] = asked(run, "can_use_tool", "Edit", Deny(), file_path="a", old_string="x", new_string="y")
    assert opened.body.diff == "--- a\n+++ a\n@@ -1 +1 @@\n-x\n+y\n"
    assert answer == {"behavior": "deny", "message": "The operator denied this."}
    assert run.report.denied == 3


@pytest.mark.parametrize(
    ("decision", "given", "denied"),
    [
        (FilledForm(content='{"a":1}'), {"action": "accept", "content": {"a": 1}}, 0),
        (Deny(), {"action": "decline"}, 1),
        (Deny(cancel=True), {"action": "cancel"}, 1),
    ],
)
def test_a_form_of_an_mcp_server_is_filled_in(decision, given, denied):
    """The answer goes to the server in MCP's words. Claude Code may give the form up."""
    form = {"subtype": "elicitation", "mcp_server_name": "deploy", "message": "Where?\nSay it.", "mode": "form"}
    form["requested_schema"] = {"type": "object", "properties": {}}
    run = translator()
    sent(run)
    [opened] = run.receive(output({"type": "control_request", "request_id": "r", "request": form}))
    assert isinstance(opened, RequestOpened) and isinstance(opened.body, FormBody)
    assert (opened.title, opened.body.server, opened.body.reason_way) == ("deploy: Where?", "deploy", "steered")
    assert run.answer(opened.id, decision, "by anna") is not None
    [answer] = sent(run)
    assert answer["response"] == {"subtype": "success", "request_id": "r", "response": given}
    assert run.report.denied == denied
    [opened] = run.receive(output({"type": "control_request", "request_id": "s", "request": form}))
    [withdrawn] = run.receive(output({"type": "control_cancel_request", "request_id": "s"}))
    assert isinstance(withdrawn, RequestWithdrawn) and withdrawn.id == opened.id
    address = {**form, "mode": "url", "url": "https://a.example"}
    events = run.receive(output({"type": "control_request", "request_id": "u", "request": address}))
    assert of_type(events, RequestOpened) == [] and sent(run)[-1]["response"]["response"] == {"action": "decline"}


def test_the_agents_own_tools_need_no_permission():
    """Unless a rule denies them. A tool of that name on another server does, and all do where they were not given."""
    own = own_tools("onsembl-1a")
    run = ClaudeTranslator("the prompt", uuid4(), "ask", own_tools=own)
    answer, events = asked(run, "can_use_tool", "mcp__onsembl-1a__ask_operator", question="?")
    assert (answer["behavior"], events) == ("allow", [])
    for name in ("mcp__onsembl-1a__x", "mcp__onsembl__ask_operator"):
        assert of_type(asked(run, "can_use_tool", name)[1], RequestOpened)
    assert of_type(asked(translator(), "can_use_tool", "mcp__onsembl-1a__notify")[1], RequestOpened)
    denying = ClaudeTranslator("the prompt", uuid4(), "ask", ToolRules(deny=["mcp__*"]), own_tools=own)
    answer, _ = asked(denying, "can_use_tool", "mcp__onsembl-1a__notify", text="x")
    assert answer["behavior"] == "deny"


def test_questions_are_answered():
    """By the text of each; several choices are one text. Questions that cannot be shown are denied."""
    run = translator()
    told = [
        {"question": "Which?", "header": "Size", "options": [{"label": "S"}, {"label": "L"}], "multiSelect": True},
        {"question": "Why?", "options": []},
    ]
    given = Answers(answers=[QuestionAnswer(id="1", answers=["S", "L"]), QuestionAnswer(id="2", answers=["so"])])
    answer, [opened] = asked(run, "can_use_tool", "AskUserQuestion", given, questions=told)
    assert isinstance(opened.body, QuestionBody) and opened.title == "Which?"
    assert answer["updatedInput"] == {"questions": told, "answers": {"Which?": "S, L", "Why?": "so"}}
    answer, [opened, _] = asked(run, "can_use_tool", "AskUserQuestion", Deny(), questions=told)
    assert answer == {"behavior": "deny", "message": "The operator did not answer."}
    for questions in ([], told * 5, [{"question": ""}]):
        answer, [denied] = asked(run, "can_use_tool", "AskUserQuestion", questions=questions)
        assert (answer["behavior"], denied.reason) == ("deny", "the questions cannot be shown")


def test_a_plan_is_approved():
    """The CLI goes on in the mode that asks about each step; a turn that goes further is still interrupted."""
    run = with_rules(mode="plan")
    sent(run)
    answer, [opened] = asked(run, "can_use_tool", "ExitPlanMode", Allow(), plan="# The plan\nto do")
    assert isinstance(opened.body, PlanBody) and opened.title == "Plan: The plan"
    assert answer == {"behavior": "allow", "updatedInput": {"plan": "# The plan\nto do"}}
    init = {"type": "system", "subtype": "init", "session_id": "s"}
    run.receive(output({**init, "permissionMode": "default"}))
    assert sent(run) == []
    run.receive(output({**init, "permissionMode": "acceptEdits"}))
    assert [line["request"]["subtype"] for line in sent(run)] == ["interrupt"]


def test_a_question_that_the_cli_gives_up_is_withdrawn():
    """Of two that are open at once, the other one stays open. An interrupt leaves both to the CLI."""
    run = translator()
    [first, *_, second] = of_type(run.receive(recorded("two-open")), RequestOpened)
    sent(run)
    lines = map(json.loads, recorded("two-open").splitlines())
    last = [line["request_id"] for line in lines if line.get("request", {}).get("subtype") == "can_use_tool"][-1]
    [withdrawn] = run.receive(output({"type": "control_cancel_request", "request_id": last}))
    assert isinstance(withdrawn, RequestWithdrawn) and withdrawn.id == second.id
    assert run.answer(first.id, Allow(), "") == []
    [answer] = sent(run)
    assert answer["response"]["response"]["updatedInput"] == {"command": "touch m1"}
    run.interrupt()
    assert run.receive(output({"type": "control_cancel_request", "request_id": "any"})) == []
