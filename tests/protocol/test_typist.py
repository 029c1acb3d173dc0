"""Keys that are typed once, over any number of connections."""

from __future__ import annotations

from uuid import uuid4

from onsembl.protocol.keyboard_messages import MAX_KEYS, KeysTaken
from onsembl.protocol.typist import Typist


def answer(keys, refused=None) -> KeysTaken:
    return KeysTaken(client_id=keys.client_id, seq=keys.seq, refused=refused)


def test_keys_are_unanswered_until_they_are_typed():
    """Messages are numbered, and sent again until the agent has answered each."""
    typist = Typist(uuid4())
    first, second = [*typist.type("a"), *typist.type("b")]
    assert [keys.seq for keys in (first, second)] == [1, 2]
    assert typist.unanswered == [first, second]
    assert typist.answered(answer(first)) == []
    assert typist.unanswered == [second]


def test_a_long_paste_is_sent_part_by_part_and_not_torn():
    """Each part follows the answer to the one before; once one is rejected, the rest is dropped, and later keys are
    sent."""
    typist = Typist(uuid4())
    text = "x" * MAX_KEYS + "y" * MAX_KEYS + "z"
    [first] = typist.type(text)
    assert typist.type("later") == [], "later keys would stand within the paste"
    [second] = typist.answered(answer(first))
    assert second.text == "y" * MAX_KEYS
    [later] = typist.answered(answer(second, "too_much"))
    assert later.text == "later"
