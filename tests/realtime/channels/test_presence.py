"""The presence of one topic, without clients."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from onsembl.realtime.channels.presence import Metas, TopicPresence

STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["k1", "k2"]), st.none() | st.sampled_from([{"x": 1}, {"x": 2}]))
)


def apply_diff(state: Metas, joins: Metas, leaves: Metas) -> None:
    """Apply a diff as a client does."""
    for key, entry in joins.items():
        state.setdefault(key, {"metas": []})["metas"].extend(entry["metas"])
    for key, entry in leaves.items():
        gone = {meta["phx_ref"] for meta in entry["metas"]}
        state[key]["metas"] = [meta for meta in state[key]["metas"] if meta["phx_ref"] not in gone]
        if not state[key]["metas"]:
            del state[key]


def by_reference(state: Metas) -> dict[str, dict[str, Any]]:
    return {key: {meta["phx_ref"]: meta for meta in entry["metas"]} for key, entry in state.items()}


@given(STEPS)
def test_the_diffs_add_up_to_the_state(steps):
    """A client that applies every diff has the state that a new client gets."""
    presence = TopicPresence()
    known: Metas = {}
    for member, key, payload in steps:
        diff = presence.untrack(member) if payload is None else presence.track(member, key, payload)
        if diff is not None:
            apply_diff(known, diff.joins, diff.leaves)
        assert by_reference(known) == by_reference(presence.state())
