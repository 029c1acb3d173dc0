"""The working time of a command stands still only while it waits for a person and nothing else of it runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.work_clock import ASK_TOOL, WorkClock


class Model:
    """A turn with background subagents, told call by call, and what runs of it by the definition.

    `calls` has the open tool calls, each with the call whose subagent made it, and whether it starts a subagent.
    """

    def __init__(self) -> None:
        self.clock = WorkClock(100.0)
        self.now = 100.0
        self.waited = 0.0
        self.turn = True
        self.calls: dict[str, tuple[str | None, bool]] = {}
        self.background: list[str] = []
        self.requests: dict[int, str] = {}
        self.made = 0

    def works(self, agent: str | None) -> bool:
        """Whether an agent works: it thinks, or one of its calls runs."""
        own = [(call, starts) for call, (parent, starts) in self.calls.items() if parent == agent]
        return not own or any(self.runs(call, starts) for call, starts in own)

    def runs(self, call: str, starts: bool) -> bool:
        if call in self.requests.values():
            return False
        return self.works(call) if starts else True

    @property
    def waits(self) -> bool:
        agents = [*self.background, *([None] if self.turn else [])]
        return bool(self.requests) and not any(self.works(agent) for agent in agents)

    def act(self, action: str, choice: int, pause: float) -> None:
        if self.waits:
            self.waited += pause
        self.now += pause
        agents = [*self.background, *([None] if self.turn else [])]
        agents += [call for call, (_, starts) in self.calls.items() if starts]
        plain = [call for call, (_, starts) in self.calls.items() if not starts]
        match action:
            case "call" | "subagent" if agents:
                self.made += 1
                call, parent = str(self.made), agents[choice % len(agents)]
                self.calls[call] = parent, action == "subagent"
                self.clock.tool_began(call, self.now, parent=parent)
            case "background" if self.turn:
                self.made += 1
                self.background.append(str(self.made))
                self.clock.background(self.background, self.now)
            case "ask" if asking := [call for call in plain if call not in self.requests.values()]:
                self.made += 1
                call = asking[choice % len(asking)]
                self.requests[self.made] = call
                self.clock.request_opened(self.made, self.now, tool_call=call, parent=self.calls[call][0])
            case "answer" if self.requests:
                closed = [*self.requests][choice % len(self.requests)]
                del self.requests[closed]
                self.clock.request_closed(closed, self.now)
            case "result" if ended := [call for call in plain if call not in self.requests.values()]:
                call = ended[choice % len(ended)]
                del self.calls[call]
                self.clock.tool_ended(call, self.now)
            case "end of the turn" if self.turn and not any(parent is None for parent, _ in self.calls.values()):
                self.turn = False
                self.clock.turn_ended(self.now)
            case _:
                pass


ACTIONS = ["call", "subagent", "background", "ask", "answer", "result", "end of the turn"]
acts = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20), st.sampled_from([0.5, 1.0, 8.0])), max_size=30)


@given(acts)
def test_time_stands_still_while_a_person_is_waited_for_and_nothing_else_runs(acts):
    """The clock agrees with the definition at each moment, and with the sum of the moments."""
    model = Model()
    for act in acts:
        model.act(*act)
        assert model.clock.stands_still == model.waits
        assert model.clock.stood_still(model.now) == model.waited
        assert (model.clock.waits_since is not None) == bool(model.requests)
    if not model.waits:
        assert model.now - model.clock.counts_from == model.now - 100.0 - model.waited


@pytest.fixture
def clock() -> WorkClock:
    return WorkClock(0.0)


def test_a_call_of_ask_operator_does_nothing_but_wait(clock):
    """Once it was told that the answer is pending, the CLI goes on, until it asks again."""
    clock.tool_began("call", 1.0, asks=True)
    clock.request_opened("question", 1.0, tool_call=ASK_TOOL)
    assert clock.stands_still
    clock.tool_ended("call", 5.0)
    assert not clock.stands_still
    clock.tool_began("again", 7.0, asks=True)
    assert (clock.stands_still, clock.counts_from, clock.waits_since) == (True, 4.0, 1.0)


def test_a_request_that_names_no_call_excuses_one(clock):
    """The CLI does not say which of its calls waits; that more than one does, it would say."""
    clock.tool_began("a", 1.0)
    clock.request_opened("form", 2.0)
    assert clock.stands_still
    clock.tool_began("b", 3.0)
    assert not clock.stands_still


def test_the_end_of_a_turn_ends_its_calls(clock):
    """A CLI may never tell the result of a call that it gave up; a background subagent's calls go on."""
    clock.tool_began("lost", 1.0)
    clock.tool_began("of the subagent", 1.0, parent="subagent")
    clock.background(["subagent"], 1.0)
    clock.turn_ended(2.0)
    clock.request_opened("request", 3.0, tool_call="of the subagent", parent="subagent")
    assert clock.stands_still
    clock.turn_began(4.0)
    assert not clock.stands_still
