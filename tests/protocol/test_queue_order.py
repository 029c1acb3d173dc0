"""Moving a command within its queue."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.queue_order import QueueEntry, move


def in_order(entries: list[QueueEntry]) -> list[QueueEntry]:
    return sorted(entries, key=lambda entry: (entry.priority, entry.position, entry.command_id))


def applied(queue: list[QueueEntry], changes: list[QueueEntry]) -> list[QueueEntry]:
    changed = {entry.command_id: entry for entry in changes}
    return in_order([changed.get(entry.command_id, entry) for entry in queue])


queues = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 8)), min_size=2, max_size=8).map(
    lambda pairs: in_order(
        [QueueEntry(UUID(int=number), priority, float(position)) for number, (priority, position) in enumerate(pairs)]
    )
)


@given(queues, st.data())
def test_a_moved_command_is_where_it_was_moved_and_the_others_keep_their_order(queue, data):
    """A moved command has its new place, and the others keep their order, after any number of moves."""
    newest = 8
    for _ in range(data.draw(st.integers(1, 12))):
        moved, anchor = data.draw(st.permutations(queue))[:2]
        to = data.draw(st.sampled_from(["first", "last", "before", "after"]))
        rest = [entry.command_id for entry in queue if entry != moved]
        index = {
            "first": 0,
            "last": len(rest),
            "before": rest.index(anchor.command_id),
            "after": rest.index(anchor.command_id) + 1,
        }[to]
        wanted = [*rest[:index], moved.command_id, *rest[index:]]
        queue = applied(queue, move(queue, moved.command_id, to, anchor.command_id, newest))
        assert [entry.command_id for entry in queue] == wanted
        if data.draw(st.booleans()):
            newest += 1
            late = QueueEntry(UUID(int=100 + newest), queue[-1].priority, float(newest))
            queue.append(late)
            assert in_order(queue)[-1] == late, "a later command is behind one that was moved to the end"


def test_positions_are_numbered_anew_when_no_number_is_left_between_two():
    """Positions get new numbers when no floating-point number is left between two neighbours."""
    queue = [QueueEntry(UUID(int=number), 5, float(number)) for number in range(3)]
    for _ in range(200):
        queue = applied(queue, move(queue, queue[2].command_id, "before", queue[1].command_id, 2))
    assert len({entry.position for entry in queue}) == 3


@pytest.mark.parametrize(("command", "anchor"), [(9, 1), (1, 9)])
def test_a_command_that_is_not_in_the_queue_cannot_be_moved(command, anchor):
    """A command or an anchor that has begun to run meanwhile raises LookupError."""
    queue = [QueueEntry(UUID(int=number), 5, float(number)) for number in range(3)]
    with pytest.raises(LookupError):
        move(queue, UUID(int=command), "before", UUID(int=anchor), 2)
