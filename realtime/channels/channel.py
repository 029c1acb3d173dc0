"""One joined topic of one socket: its claims and its subscriptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from onsembl.realtime.channels.serializer import Frame
from onsembl.realtime.channels.subscription import BadSubscription, Subscription, parse, subscription_id

PREFIX = "realtime:"


class Channel:
    """State of a joined topic. `push` sends a frame and never waits."""

    def __init__(self, topic: str, join_ref: str | None, claims: dict[str, Any], push: Callable[[Frame], None]) -> None:
        self.topic = topic
        self.join_ref = join_ref
        self._push = push
        self.subscriptions: tuple[Subscription, ...] = ()
        self.refusal: str | None = None
        self.authorize(claims)

    def authorize(self, claims: dict[str, Any]) -> None:
        """The claims that row-level security sees from here on."""
        self.role: str = str(claims.get("role", "anon"))
        self.expires_at = float(claims.get("exp", "inf"))
        self.claims: str = orjson.dumps(claims).decode()

    def subscribe(self, config: dict[str, Any]) -> list[dict[str, Any]]:
        """Take the join's `postgres_changes`; what to answer. A wrong entry is told later, by `system`."""
        entries: object = config.get("postgres_changes")
        wanted = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []  # pyright: ignore[reportUnknownVariableType]
        answer: list[dict[str, Any]] = []
        subscriptions: list[Subscription] = []
        for entry in wanted:  # pyright: ignore[reportUnknownVariableType]
            params: dict[str, Any] = dict(entry)  # pyright: ignore[reportUnknownArgumentType]
            answer.append({**params, "id": subscription_id(params)})
            try:
                subscriptions.append(parse(params))
            except BadSubscription as error:
                self.refusal = str(error)
        if self.refusal is None:
            self.subscriptions = tuple(subscriptions)
        return answer

    @property
    def follows_changes(self) -> bool:
        return bool(self.subscriptions)

    def deliver(self, ids: list[int], data: dict[str, Any]) -> None:
        self._push(Frame(self.topic, "postgres_changes", {"ids": ids, "data": data}))

    def system(self, extension: str, status: str, message: str) -> None:
        """A `system` message."""
        payload = {
            "extension": extension,
            "status": status,
            "message": message,
            "channel": self.topic.removeprefix(PREFIX),
        }
        self._push(Frame(self.topic, "system", payload, join_ref=self.join_ref))

    def close(self) -> None:
        """Tell the client that the channel is over."""
        self._push(Frame(self.topic, "phx_close", {}, ref=self.join_ref, join_ref=self.join_ref))
