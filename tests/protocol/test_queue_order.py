"""Moving a command within its line."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.queue_order import Place, move


def in_order(places: list[Place]) -> list[Place]:
    return sorted(places, key=lambda place: (place.priority, place.place, place.command_id))


def applied(line: list[Place], changes: list[Place]) -> list[Place]:
    changed = {place.command_id: place for place in changes}
    return in_order([changed.get(place.command_id, place) for place in line])


lines = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 8)), min_size=2, max_size=8).map(
    lambda pairs: in_order(
        [Place(UUID(int=number), priority, float(place)) for number, (priority, place) in enumerate(pairs)]
    )
)


@given(lines, st.data())
def test_it_stands_where_it_was_moved_and_the_others_keep_their_order(line, data):
    """However often, and however close together they stand."""
    newest = 8
    for _ in range(data.draw(st.integers(1, 12))):
        moved, anchor = data.draw(st.permutations(line))[:2]
        where = data.draw(st.sampled_from(["first", "last", "before", "after"]))
        rest = [place.command_id for place in line if place != moved]
        index = {
            "first": 0,
            "last": len(rest),
            "before": rest.index(anchor.command_id),
            "after": rest.index(anchor.command_id) + 1,
        }[where]
        wanted = [*rest[:index], moved.command_id, *rest[index:]]
        line = applied(line, move(line, moved.command_id, where, anchor.command_id, newest))
        assert [place.command_id for place in line] == wanted
        if data.draw(st.booleans()):
            newest += 1
            late = Place(UUID(int=100 + newest), line[-1].priority, float(newest))
            line.append(late)
            assert in_order(line)[-1] == late, "what comes later is behind what was moved to the end"


def test_a_line_without_room_is_numbered_anew():
    """Between two neighbours there is a number only so many times."""
    line = [Place(UUID(int=number), 5, float(number)) for number in range(3)]
    for _ in range(200):
        line = applied(line, move(line, line[2].command_id, "before", line[1].command_id, 2))
    assert len({place.place for place in line}) == 3


@pytest.mark.parametrize(("command", "anchor"), [(9, 1), (1, 9)])
def test_what_is_not_in_the_line_is_told(command, anchor):
    """It may have begun to run meanwhile."""
    line = [Place(UUID(int=number), 5, float(number)) for number in range(3)]
    with pytest.raises(LookupError):
        move(line, UUID(int=command), "before", UUID(int=anchor), 2)
