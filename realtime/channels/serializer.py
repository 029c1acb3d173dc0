"""The two wire forms of Phoenix channels that Supabase's clients speak: 1.0.0 (objects) and 2.0.0 (arrays). No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import orjson

Version = Literal["1.0.0", "2.0.0"]


class BadFrame(ValueError):
    """Not a frame of this version; the socket stays open."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message on a topic. Pushes of the server have no refs."""

    topic: str
    event: str
    payload: dict[str, Any]
    ref: str | None = None
    join_ref: str | None = None


def decode(text: str, version: Version) -> Frame:
    """A client's text frame. Raises BadFrame."""
    try:
        raw: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadFrame(f"not JSON: {error}") from error
    if version == "1.0.0":
        if not isinstance(raw, dict):
            raise BadFrame("not an object")
        fields = [raw.get(name) for name in ("join_ref", "ref", "topic", "event", "payload")]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    else:
        if not isinstance(raw, list) or len(raw) != 5:  # pyright: ignore[reportUnknownArgumentType]
            raise BadFrame("not an array of five")
        fields = list(raw)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    join_ref, ref, topic, event, payload = fields  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(topic, str) or not isinstance(event, str):
        raise BadFrame("topic and event are strings")
    if not isinstance(payload, dict):
        payload = {}
    return Frame(topic, event, payload, _ref(ref), _ref(join_ref))  # pyright: ignore[reportUnknownArgumentType]


def encode(frame: Frame, version: Version) -> str:
    """The server's text frame."""
    if version == "1.0.0":
        return orjson.dumps(
            {"topic": frame.topic, "event": frame.event, "payload": frame.payload, "ref": frame.ref}
        ).decode()
    return orjson.dumps([frame.join_ref, frame.ref, frame.topic, frame.event, frame.payload]).decode()


def _ref(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) else None
