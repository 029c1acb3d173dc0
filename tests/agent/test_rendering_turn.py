"""The events of a turn in a terminal."""

from __future__ import annotations

import re

from onsembl.agent.rendering.turn import RED, YELLOW, TurnRenderer
from onsembl.protocol.turn_events import (
    Diff,
    MessageChunk,
    MessageEnded,
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
from onsembl.protocol.usage import Usage


def show(*events: TurnEvent, width: int = 80) -> str:
    """The text of these events, with its styles."""
    renderer = TurnRenderer(lambda: width)
    return "".join(map(renderer.render, events)) + renderer.close()


def plain(*events: TurnEvent, width: int = 80) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", show(*events, width=width))


def chunk(text: str, **fields: str) -> MessageChunk:
    return MessageChunk(speaker="agent", text=text, **fields)


def call(identity: str, title: str = "ls", **fields: object) -> ToolCall:
    return ToolCall(id=identity, name="Bash", kind="execute", title=title, arguments="{}", **fields)


def ended(identity: str, text: str = "out", **fields: object) -> ToolCallEnded:
    return ToolCallEnded(id=identity, status="completed", text=text, **fields)


STARTED = TurnStarted(conversation="c", model="opus", folder="/work", permission_mode="default", version="2")


def test_an_answer_is_seen_while_it_is_written():
    """Each word is shown when the next one begins."""
    renderer = TurnRenderer(lambda: 80)
    pieces = [renderer.render(chunk(text)) for text in ("one tw", "o three", " ")]
    assert pieces == ["one", " two", " three"]
    assert renderer.render(MessageEnded()) == "\n"


def test_the_model_is_named_once():
    """A further turn of the same run names it again only when it or the permission mode has changed."""
    other = TurnStarted(conversation="c", model="opus", folder="/work", permission_mode="plan", version="2")
    assert plain(STARTED, STARTED, other).splitlines() == [
        "opus · /work · permission mode default",
        "opus · /work · permission mode plan",
    ]


def test_results_are_below_their_calls():
    """A result follows its call; of calls side by side, each result names its own."""
    assert plain(call("a", "ls"), ended("a", "x")) == "● Bash ls\n  x\n"
    assert plain(call("a", "one"), call("b", "two"), ended("a", "x"), ended("b", "y")).splitlines() == [
        "● Bash one",
        "● Bash two",
        "  ↳ Bash one",
        "  x",
        "  ↳ Bash two",
        "  y",
    ]


def test_a_failed_call_is_red_and_an_image_is_named():
    """The result of a tool says what it has besides text."""
    shown = show(call("a"), ToolCallEnded(id="a", status="failed", text="no", images=["image/png, 3 bytes"]))
    assert f"  {RED}no" in shown
    assert "[image: image/png, 3 bytes]" in shown


def test_subagents_are_indented():
    """Each level of subagents is indented below the call that started it."""
    lines = plain(call("a"), call("b", parent="a"), chunk("deep", parent="b"), chunk("main")).splitlines()
    assert lines == ["● Bash ls", "  ● Bash ls", "    deep", "main"]


def test_a_change_of_a_file_is_coloured():
    """Removed and added lines have colours; a long change is cut and says by how much."""
    shown = show(call("a", diffs=[Diff(path="/f", old="same\nold", new="same\nnew")]))
    assert "\x1b[31m-old" in shown
    assert "\x1b[32m+new" in shown
    long = plain(call("a", diffs=[Diff(path="/f", old=None, new="\n".join(map(str, range(100))))]))
    assert long.count("\n") == 26
    assert "76 more lines" in long


def test_a_plan_marks_its_entries():
    """What is done, what is being done, and what is left."""
    entries = [
        PlanEntry(content="a", status="completed"),
        PlanEntry(content="b", status="in_progress"),
        PlanEntry(content="c", status="pending"),
    ]
    assert plain(Plan(entries=entries)) == "☑ a\n▶ b\n☐ c\n"


def test_what_was_not_allowed_is_amber():
    """A denial names the tool, its argument and the reason."""
    shown = show(PermissionDenied(tool_call="a", name="Bash", title="rm x", reason="nobody could be asked"))
    assert shown.startswith(f"{YELLOW}⊘ denied: Bash rm x · nobody could be asked")


def test_the_end_of_a_turn_sums_it_up():
    """Its time, tokens and cost, and its error in red."""
    usage = Usage(input_tokens=1000, output_tokens=234, cost_usd=0.5)
    shown = show(chunk("half"), TurnEnded(outcome="failed", error="API Error", seconds=1.25, usage=usage))
    assert f"half\n{RED}API Error" in shown
    assert "1.2 s · 1,234 tokens · $0.5000" in shown


def test_no_event_can_move_the_cursor():
    """No control sequence of an answer, a tool, a plan or an error reaches the terminal."""
    evil = "a\x1b]52;c;aGk=\x07\x1b[2Jb\x9b1m"
    shown = show(
        TurnStarted(conversation=evil, model=evil, folder=evil, permission_mode=evil, version=evil),
        chunk(evil),
        ToolCall(
            id="a",
            name=evil,
            kind="other",
            title=evil,
            arguments=evil,
            diffs=[Diff(path=evil, old=evil, new=evil + evil)],
        ),
        ToolCallEnded(id="a", status="failed", text=evil, images=[evil]),
        Plan(entries=[PlanEntry(content=evil, status="pending")]),
        PermissionDenied(tool_call="a", name=evil, title=evil, reason=evil),
        Notice(kind="retry", text=evil),
        Notice(kind="unknown_output", text=evil),
        TurnEnded(outcome="failed", error=evil, seconds=0),
    )
    assert not re.sub(r"\x1b\[[0-9;]*m", "", shown).translate({10: None}).count("\x1b")
    assert not {"\x07", "\x9b"} & set(shown)


def test_a_line_of_a_wrapper_is_shown_as_it_is():
    """Output that is no event of the CLI is a line of its own."""
    assert show(chunk("half"), Notice(kind="unknown_output", text="npm warn x")) == "half\nnpm warn x\n"
