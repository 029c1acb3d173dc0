"""Who is present on a topic: what each member tracks under its key, and what changes to tell. No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

Metas = dict[str, dict[str, list[Mapping[str, Any]]]]
"""`{key: {"metas": [meta, …]}}`, as clients read it."""


@dataclass(frozen=True, slots=True)
class Diff:
    """What a `presence_diff` says."""

    joins: Metas
    leaves: Metas

    def payload(self) -> dict[str, Any]:
        return {"joins": self.joins, "leaves": self.leaves}


@dataclass(slots=True)
class _Tracked:
    key: str
    payload: Mapping[str, Any]
    meta: Mapping[str, Any]


class Presence:
    """The members of one topic that track something; each tracks one payload."""

    def __init__(self) -> None:
        self._tracked: dict[Hashable, _Tracked] = {}

    def __len__(self) -> int:
        return len(self._tracked)

    def track(self, member: Hashable, key: str, payload: Mapping[str, Any]) -> Diff | None:
        """Begin to track, or track something else; None when it is the same as before."""
        before = self._tracked.get(member)
        if before is not None and before.payload == payload:
            return None
        reference = secrets.token_urlsafe(9)
        meta: dict[str, Any] = {**payload, "phx_ref": reference}
        leaves: Metas = {}
        if before is not None:
            meta["phx_ref_prev"] = before.meta["phx_ref"]
            leaves = {before.key: {"metas": [before.meta]}}
        self._tracked[member] = _Tracked(key, payload, meta)
        return Diff({key: {"metas": [meta]}}, leaves)

    def untrack(self, member: Hashable) -> Diff | None:
        """Track nothing more; None when the member did not."""
        before = self._tracked.pop(member, None)
        return Diff({}, {before.key: {"metas": [before.meta]}}) if before is not None else None

    def state(self) -> Metas:
        """What a `presence_state` says."""
        state: Metas = {}
        for tracked in self._tracked.values():
            state.setdefault(tracked.key, {"metas": []})["metas"].append(tracked.meta)
        return state
