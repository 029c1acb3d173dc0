"""The requests that wait for a person: each is answered once or withdrawn, by exactly what was asked."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace
from support.missing_guards import assert_fails

from onsembl.agent.requests import NOBODY, TOO_LONG, TOO_MANY, Requests, Taken, in_words
from onsembl.protocol.attention_messages import (
    MAX_BODY_TEXT,
    MAX_GIVEN_ANSWERS,
    MAX_OPEN_REQUESTS,
    Allow,
    Answer,
    Answers,
    Asked,
    Decision,
    Deny,
    PermissionBody,
    PlanBody,
    Question,
    QuestionAnswer,
    QuestionBody,
    Withdrawn,
    digest_of,
)
from onsembl.protocol.messages import Message, OpenRequests

NOW = datetime(2026, 1, 2, tzinfo=UTC)
COMMAND = uuid4()


def asked(text: str = "ls", id: UUID | None = None) -> Asked:
    body = PermissionBody(tool="Bash", tool_kind="execute", input="{}", said=[text])
    return Asked(
        request_id=id or uuid4(), command_id=COMMAND, title="t", body=body, digest=digest_of(body), asked_at=NOW
    )


def answer(to: Asked, decision: Decision | None = None) -> Answer:
    return Answer(
        request_id=to.request_id, command_id=COMMAND, digest=to.digest, decision=decision or Allow(), by="anna"
    )


def connected() -> tuple[Requests, list[Message]]:
    requests, sent = Requests(), []
    requests.send = sent.append
    requests.messages_after_welcome(server_takes=True)
    return requests, sent


class AnyOrder(RuleBasedStateMachine):
    """Answers, also repeated and outdated ones, withdrawals and reconnects, in any order."""

    asked = Bundle("asked")

    def __init__(self) -> None:
        super().__init__()
        self.requests, self.sent = connected()
        self.open: dict[UUID, Asked] = {}
        self.given: Counter[UUID] = Counter()
        self.withdrawn: set[UUID] = set()

    @rule(target=asked)
    def ask(self) -> Asked:
        request = asked()
        assert self.requests.ask(request) is None
        self.open[request.request_id] = request
        return request

    @rule(target=asked, earlier=asked)
    def ask_otherwise(self, earlier: Asked) -> Asked:
        if earlier.request_id not in self.open:
            return earlier
        request = asked(f"{uuid4()}", earlier.request_id)
        assert self.requests.ask(request) is None
        self.open[request.request_id] = request
        return request

    @rule(to=asked, decision=st.sampled_from([Allow(), Deny(), Allow(input="{}")]))
    def answer(self, to: Asked, decision: Decision) -> None:
        current = self.open.get(to.request_id)
        taken = self.requests.take(answer(to, decision))
        if current is None or current.digest != to.digest:
            assert taken.decision is None
            assert taken.fate == "late" or self.given[to.request_id] == 1
            return
        del self.open[to.request_id]
        if decision == Allow(input="{}"):  # a call that cannot be changed
            assert taken.fate == "late" and isinstance(taken.decision, Deny)
        else:
            assert (taken.fate, taken.decision) == ("given", decision)
            self.given[to.request_id] += 1
            assert self.requests.take(answer(to, decision)).fate == "given", "it is repeated until it is acknowledged"

    @rule(request=asked)
    def withdraw(self, request: Asked) -> None:
        was_open = self.open.pop(request.request_id, None)
        assert self.requests.withdraw(request.request_id, "over") == was_open
        if was_open is not None:
            assert isinstance(self.sent[-1], Withdrawn)
            assert self.requests.take(answer(was_open)) == self.requests.take(answer(was_open))
            assert self.requests.take(answer(was_open)).decision is None

    @invariant()
    def each_is_given_once_at_most(self) -> None:
        assert set(self.given.values()) <= {1}
        first, *others = self.requests.messages_after_welcome(server_takes=True)
        assert isinstance(first, OpenRequests)
        assert first.requests == list(self.open) and others == list(self.open.values())
        assert {one.request_id for one in first.given} == self.given.keys()
        assert self.requests.open_of(COMMAND) == list(self.open) and self.requests.open_of(uuid4()) == []


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_a_missing_guard_is_seen(monkeypatch: pytest.MonkeyPatch):
    """Without the comparison of what was asked, an answer is given to another request."""
    take = Requests.take

    def take_for_anything(requests: Requests, answer: Answer) -> Taken:
        open_one = requests._open.get(answer.request_id)
        return take(requests, answer if open_one is None else replace(answer, digest=open_one.digest))

    monkeypatch.setattr(Requests, "take", take_for_anything)
    assert_fails(AnyOrder)


def test_what_nobody_can_see_is_not_asked():
    """Without a server that takes requests, above the number of open ones, or too long: it is to be denied."""
    requests = Requests()
    assert requests.ask(asked()) == NOBODY
    requests, sent = connected()
    long = asked("x" * (MAX_BODY_TEXT + 1))
    assert requests.ask(long) == TOO_LONG and sent == []
    wide = asked()
    body = replace(wide.body, said=["x" * MAX_BODY_TEXT] * 5)
    assert requests.ask(replace(wide, body=body)) == TOO_LONG
    for _ in range(MAX_OPEN_REQUESTS):
        assert requests.ask(asked()) is None
    assert requests.ask(asked()) == TOO_MANY
    assert len(sent) == len(requests.open_of(COMMAND)) == MAX_OPEN_REQUESTS
    assert requests.messages_after_welcome(server_takes=False) == []
    assert requests.ask(asked()) == NOBODY


def test_a_decision_that_could_not_be_given_was_late():
    """The program had ended in between."""
    requests, _ = connected()
    requests.ask(request := asked())
    assert requests.take(answer(request)).fate == "given"
    requests.not_given(answer(request))
    assert requests.take(answer(request)).fate == "late"


def test_only_the_last_answers_are_remembered():
    """The memory for answers that were given has a bound."""
    requests, _ = connected()
    first = asked()
    for request in [first, *(asked() for _ in range(MAX_GIVEN_ANSWERS))]:
        requests.ask(request)
        requests.take(answer(request))
    assert (requests.take(answer(first)).fate, requests.take(answer(request)).fate) == ("late", "given")


def test_decisions_in_words():
    """Who decided what; a secret answer is not told."""
    call = asked().body
    questions = QuestionBody(
        questions=[Question(id="1", text="Which?", multiple=True), Question(id="2", text="The key?", secret=True)]
    )
    answers = [QuestionAnswer(id="1", answers=["a", "b"]), QuestionAnswer(id="2", answers=["hush"])]
    assert in_words(Allow(), call, "anna") == "Allowed by anna."
    assert in_words(Allow(input="{}"), call, "anna") == "Allowed by anna, with a changed input."
    assert in_words(Allow(), PlanBody(plan="x"), "anna") == "Approved by anna."
    assert in_words(Deny(reason="Not now."), call, "rule Bash") == "Denied by rule Bash: Not now."
    assert in_words(Answers(answers=answers), questions, "anna") == "Answered by anna: a, b; •••"
