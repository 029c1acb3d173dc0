"""One controller at a time types, and each key is typed once, over connections that break and reconnect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.missing_guards import assert_fails

from onsembl.protocol.control import GRACE_SECONDS, MAX_PENDING, Client, Control, KeyDeduplicator, UnansweredKeys
from onsembl.protocol.keyboard_messages import Keys

PAGES = [Client(uuid4(), f"page-{n}") for n in range(4)]
PAGE = st.sampled_from(PAGES)


class ControlMachine(RuleBasedStateMachine):
    """Runs requests, grants, takeovers, releases and lost connections in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.control = Control()
        self.now = 0.0
        self.version = 0
        self.connections = Counter[UUID]()

    @rule(page=PAGE)
    def request(self, page: Client) -> None:
        free = self.control.controller is None
        assert self.control.request(page) == (free or self.control.holds(page.id))

    @rule(page=PAGE)
    def take(self, page: Client) -> None:
        self.control.take(page)
        assert self.control.holds(page.id)

    @rule(giver=PAGE, to=PAGE)
    def grant(self, giver: Client, to: Client) -> None:
        could = self.control.holds(giver.id) and to in self.control.waiting
        assert (self.control.grant(giver.id, to.id) is not None) == could
        if could:
            assert self.control.holds(to.id)

    @rule(page=PAGE)
    def release(self, page: Client) -> None:
        next_one = next((other for other in self.control.waiting if other != page), None)
        if self.control.release(page.id):
            assert self.control.controller == next_one, "whoever waits longest is next"

    @rule(page=PAGE)
    def lose(self, page: Client) -> None:
        held = self.control.holds(page.id)
        waited = page in self.control.waiting
        self.control.disconnected(page.id, self.now)
        self.connections[page.id] = max(0, self.connections[page.id] - 1)
        assert self.control.holds(page.id) == held, "the controller may come back"
        assert (page in self.control.waiting) == (waited and self.connections[page.id] > 0)

    @rule(page=PAGE)
    def come_back(self, page: Client) -> None:
        self.control.connected(page.id)
        self.connections[page.id] += 1

    @rule(seconds=st.floats(0, 2 * GRACE_SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        controller = self.control.controller
        lost = self.control.expire(self.now)
        assert lost is None or (lost == controller and not self.connections[lost.id])

    @invariant()
    def nobody_both_types_and_waits(self) -> None:
        ids = [client.id for client in self.control.waiting]
        assert len(ids) == len(set(ids))
        assert self.control.controller is None or self.control.controller.id not in ids
        assert self.control.controller is not None or not ids, "nobody waits for a free terminal"

    @invariant()
    def changes_are_numbered(self) -> None:
        assert self.control.version >= self.version
        self.version = self.control.version


TestControl = ControlMachine.TestCase


def test_a_lost_controller_keeps_the_terminal_for_a_while():
    """A controller that reconnects within the grace period keeps control; after it, the next waiting page gets
    control."""
    control = Control()
    control.request(PAGES[0])
    control.request(PAGES[1])
    control.disconnected(PAGES[0].id, 100.0)
    assert control.expire(100.0 + GRACE_SECONDS - 1) is None
    control.connected(PAGES[0].id)
    assert control.expire(1000.0) is None
    control.disconnected(PAGES[0].id, 1000.0)
    assert control.expire(1000.0 + GRACE_SECONDS) == PAGES[0]
    assert control.controller == PAGES[1]


def test_a_connection_that_is_given_up_late_takes_nothing_from_the_page():
    """The late end of a page's older connection takes neither its control nor its place among the waiting pages."""
    control = Control()
    for page in PAGES[:2]:
        control.connected(page.id)
        control.request(page)
        control.connected(page.id)
        control.disconnected(page.id, 100.0)
    assert control.expire(1000.0) is None
    assert (control.controller, control.waiting) == (PAGES[0], [PAGES[1]])
    for page in PAGES[:2]:
        control.disconnected(page.id, 1000.0)
    assert control.expire(2000.0) == PAGES[0]
    assert (control.controller, control.waiting) == (None, [])


class TypingMachine(RuleBasedStateMachine):
    """A page, the server's unanswered keys and an agent, with connections that lose the messages on their way."""

    @initialize()
    def begin(self) -> None:
        self.client_id: UUID = uuid4()
        self.pending, self.typed = UnansweredKeys(), KeyDeduplicator()
        self.seq = 0
        self.to_agent: list[Keys] = []
        self.to_server: list[int] = []
        self.program: list[int] = []
        self.answered: list[int] = []

    @rule()
    def press(self) -> None:
        self.seq += 1
        keys = Keys(client_id=self.client_id, seq=self.seq, text="x")
        assert self.pending.add(keys) is True
        self.to_agent.append(keys)

    @rule(data=st.data())
    def page_sends_again(self, data: st.DataObject) -> None:
        if self.seq:
            seq = data.draw(st.integers(1, self.seq))
            assert self.pending.add(Keys(client_id=self.client_id, seq=seq, text="x")) is False

    @rule()
    def agent_hears(self) -> None:
        if self.to_agent:
            keys = self.to_agent.pop(0)
            answer = self.typed.answer_to(keys)
            if answer is None:
                self.program.append(keys.seq)
                answer = self.typed.record(keys, None)
            self.to_server.append(answer.seq)

    @rule()
    def server_hears(self) -> None:
        if self.to_server:
            seq = self.to_server.pop(0)
            self.pending.answered(seq)
            self.answered.append(seq)

    @rule()
    def link_breaks_and_comes_back(self) -> None:
        self.to_server.clear()
        self.to_agent = self.pending.all()

    @invariant()
    def each_key_is_typed_once_and_in_order(self) -> None:
        assert self.program == list(range(1, len(self.program) + 1))

    @invariant()
    def what_is_answered_was_typed(self) -> None:
        assert set(self.answered) <= set(self.program)

    def teardown(self) -> None:
        if hasattr(self, "pending"):
            self.link_breaks_and_comes_back()
            while self.to_agent:
                self.agent_hears()
            assert self.program == list(range(1, self.seq + 1)), "nothing that was pressed is lost"


TestTyping = TypingMachine.TestCase


@pytest.mark.parametrize(
    ("machine", "part", "name", "broken"),
    [
        (ControlMachine, Control, "connected", lambda *_: None),  # a page that is back is not counted
        (ControlMachine, Control, "expires_in", lambda *_: 0.0),  # the grace period is over at once
        (ControlMachine, Control, "_give", lambda control, client: setattr(control, "controller", client)),
        (TypingMachine, UnansweredKeys, "all", lambda _: []),  # nothing is sent again
        (TypingMachine, KeyDeduplicator, "answer_to", lambda *_: None),  # everything is typed again
    ],
)
def test_a_missing_guard_is_seen(
    monkeypatch: pytest.MonkeyPatch,
    machine: type[RuleBasedStateMachine],
    part: type,
    name: str,
    broken: Callable[..., object],
) -> None:
    """The machines fail without any of these guards."""
    monkeypatch.setattr(part, name, broken)
    assert_fails(machine)


@given(st.integers(MAX_PENDING, MAX_PENDING + 20))
def test_what_waits_for_an_answer_is_bounded(count: int):
    """The number of unanswered keys is bounded: more are rejected until an answer makes room."""
    pending, client_id = UnansweredKeys(), uuid4()
    added = [pending.add(Keys(client_id=client_id, seq=n + 1, text="x")) for n in range(count)]
    assert added.count(True) == MAX_PENDING
    assert added[MAX_PENDING:] == ["too_much"] * (count - MAX_PENDING)
    pending.answered(1)
    assert [keys.seq for keys in pending.all()] == list(range(2, MAX_PENDING + 1))
    assert pending.add(Keys(client_id=client_id, seq=count + 1, text="x")) is True


def test_a_refusal_is_repeated_as_it_was():
    """A repeated message with rejected keys gets the same rejection, and its keys are not typed."""
    typed, keys = KeyDeduplicator(), Keys(client_id=uuid4(), seq=1, text="x")
    assert typed.answer_to(keys) is None
    typed.record(keys, "nothing_runs")
    assert typed.answer_to(keys).refused == "nothing_runs"
