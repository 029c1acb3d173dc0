"""Parses the payload of `phx_join`. Lenient, as Supabase Realtime is: a field of a wrong type counts as absent, and is
listed in `problems`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid1

from onsembl.realtime.channels.serializer import is_encodable

DEFAULT_REPLAY_LIMIT = 25
MAX_REPLAY_LIMIT = 25


@dataclass(frozen=True, slots=True)
class Replay:
    """Replay the newest `limit` stored messages of the topic since a time (Unix, milliseconds)."""

    since: int
    limit: int


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """The payload of a `phx_join`. `replay_error` says why the requested replay is not possible."""

    token: str | None = None
    """The access token of the join; None for the socket's own key or token."""
    private: bool = False
    ack: bool = False
    to_self: bool = False
    replay: Replay | None = None
    replay_error: str | None = None
    replication_ready: bool = False
    presence: bool = False
    presence_key: str = ""
    postgres_changes: tuple[Mapping[str, Any], ...] = ()
    wait: bool = False
    wait_timeout: float | None = None  # seconds
    problems: list[str] = field(default_factory=list[str])


def parse_join(payload: Mapping[str, Any]) -> JoinRequest:
    """Parse a payload of any form."""
    reader = _Reader()
    config = reader.map(payload, "config")
    broadcast = reader.map(config, "broadcast")
    presence = reader.map(config, "presence")
    options = reader.map(config, "postgres_changes_options")
    private = reader.boolean(config, "private")
    replay, replay_error = _replay(broadcast, private)
    timeout: object = options.get("timeout")
    return JoinRequest(
        token=_token(payload),
        private=private,
        ack=reader.boolean(broadcast, "ack"),
        to_self=reader.boolean(broadcast, "self"),
        replay=replay,
        replay_error=replay_error,
        replication_ready=reader.boolean(broadcast, "replication_ready"),
        presence=reader.boolean(presence, "enabled"),
        presence_key=_presence_key(presence),
        postgres_changes=reader.maps(config, "postgres_changes"),
        wait=reader.boolean(options, "wait"),
        wait_timeout=timeout / 1000 if isinstance(timeout, int) and timeout > 0 else None,
        problems=reader.problems,
    )


class _Reader:
    def __init__(self) -> None:
        self.problems: list[str] = []

    def map(self, outer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        value: object = outer.get(name)
        if isinstance(value, dict):
            return cast(dict[str, Any], value)
        if value is not None:
            self.problems.append(f"{name}: unable to parse, expected a map")
        return {}

    def maps(self, outer: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], ...]:
        value: object = outer.get(name)
        if value is None:
            return ()
        entries = cast(list[object], value) if isinstance(value, list) else None
        if entries is None:
            self.problems.append(f"{name}: unable to parse, expected an array of maps")
            return ()
        maps = [cast(dict[str, Any], entry) for entry in entries if isinstance(entry, dict)]
        maps = [entry for entry in maps if is_encodable(entry)]
        if len(maps) < sum(entry is not None for entry in entries):
            self.problems.append(f"{name}: unable to parse, expected an array of maps")
        return tuple(maps)

    def boolean(self, outer: Mapping[str, Any], name: str) -> bool:
        value: object = outer.get(name)
        if isinstance(value, str):
            value = {"true": True, "false": False}.get(value.lower(), value)
        if isinstance(value, bool):
            return value
        if value is not None:
            self.problems.append(f"{name}: unable to parse, expected boolean")
        return False


def _token(payload: Mapping[str, Any]) -> str | None:
    """The access token; `user_token` is its old name. A key in its place counts as none."""
    for name in ("user_token", "access_token"):
        value: object = payload.get(name)
        if isinstance(value, str):
            return None if value.startswith("sb_") else value
    return None


def _presence_key(presence: Mapping[str, Any]) -> str:
    key: object = presence.get("key")
    return str(key) if isinstance(key, str | int) and key != "" else str(uuid1())


def _replay(broadcast: Mapping[str, Any], private: bool) -> tuple[Replay | None, str | None]:
    if "replay" not in broadcast:
        return None, None
    if not private:
        return None, "Replay is not allowed for public channels"
    wanted: object = broadcast["replay"]
    if not isinstance(wanted, dict):
        return None, None
    params = cast(dict[str, object], wanted)
    since, limit = params.get("since"), params.get("limit") or DEFAULT_REPLAY_LIMIT
    if not isinstance(since, int) or not isinstance(limit, int) or not 0 <= since < 2**52:
        return None, "Replay params are not valid"
    return Replay(since, max(1, min(limit, MAX_REPLAY_LIMIT))), None
