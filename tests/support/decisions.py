"""Answers the requests among the events of a translator at once, as a run does when nobody can be asked."""

from __future__ import annotations

from onsembl.agent.drivers.turn_run import NOBODY_TO_ASK, Translator
from onsembl.agent.requests import NOBODY
from onsembl.protocol.attention_messages import Decision, Deny
from onsembl.protocol.request_events import RequestOpened
from onsembl.protocol.turn_events import TurnEvent

UNASKED = Deny(reason=NOBODY_TO_ASK)


def decided(
    run: Translator, events: list[TurnEvent], decision: Decision = UNASKED, denial: str = NOBODY
) -> list[TurnEvent]:
    """The events, with those of the decision in the place of each request."""
    answered: list[TurnEvent] = []
    for event in events:
        answered += run.answer(event.id, decision, denial) or [] if isinstance(event, RequestOpened) else [event]
    return answered
