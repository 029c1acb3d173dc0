"""Presence on one topic: the payload that each member tracks under its key, and the differences to push. No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

Metas = dict[str, dict[str, list[Mapping[str, Any]]]]
"""`{key: {"metas": [meta, …]}}`, the form of `presence_state` and of both halves of `presence_diff`."""


@dataclass(frozen=True, slots=True)
class PresenceDiff:
    """The contents of a `presence_diff`."""

    joins: Metas
    leaves: Metas

    def payload(self) -> dict[str, Any]:
        return {"joins": self.joins, "leaves": self.leaves}


@dataclass(slots=True)
class _Tracked:
    key: str
    payload: Mapping[str, Any]
    meta: Mapping[str, Any]


class TopicPresence:
    """The tracked payloads of one topic's members, at most one for each member."""

    def __init__(self) -> None:
        self._tracked: dict[Hashable, _Tracked] = {}

    def __len__(self) -> int:
        return len(self._tracked)

    def track(self, member: Hashable, key: str, payload: Mapping[str, Any]) -> PresenceDiff | None:
        """Track a payload in the place of the member's last one; None when both are equal."""
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
        return PresenceDiff({key: {"metas": [meta]}}, leaves)

    def untrack(self, member: Hashable) -> PresenceDiff | None:
        """Stop tracking the member's payload; None when it has none."""
        before = self._tracked.pop(member, None)
        return PresenceDiff({}, {before.key: {"metas": [before.meta]}}) if before is not None else None

    def state(self) -> Metas:
        """The contents of a `presence_state`."""
        state: Metas = {}
        for tracked in self._tracked.values():
            state.setdefault(tracked.key, {"metas": []})["metas"].append(tracked.meta)
        return state
