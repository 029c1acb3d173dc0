"""What a command says: a text as it was given, or one rendered from a preset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onsembl.protocol.limits import NO_LIMITS, CommandLimits
from onsembl.protocol.presets import Value, ValuesError, render
from onsembl.sql import presets
from onsembl.sql.database import Connection

USUAL_PRIORITY = 5


@dataclass(frozen=True, slots=True)
class Said:
    """What agents are told; `preset` is the name of the one that it was made of."""

    text: str
    priority: int
    preset: str | None = None
    limits: CommandLimits = NO_LIMITS


class WordingError(ValueError):
    """Nothing can be said that way; the text says why, `fields` what is wrong with which variable."""

    def __init__(self, why: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(why)
        self.fields = dict(fields or {})


async def word(
    conn: Connection,
    *,
    text: str | None,
    preset: str | None,
    values: Mapping[str, Value],
    priority: int | None,
    limits: CommandLimits,
    kinds: Iterable[str],
) -> Said:
    """The text for agents of these kinds. Raises WordingError."""
    if (text is None) == (preset is None):
        raise WordingError("Give either a text or a preset.")
    if preset is None:
        if values:
            raise WordingError("Only a preset takes values.")
        assert text is not None
        return Said(text, priority or USUAL_PRIORITY, limits=limits)
    found = await presets.find(conn, preset)
    if found is None:
        raise WordingError(f"There is no preset {preset}.")
    others = sorted({kind for kind in kinds if found.kind is not None and kind != found.kind})
    if others:
        raise WordingError(f"The preset {found.name} is for agents of the kind {found.kind}, not {', '.join(others)}.")
    try:
        rendered = render(found, values)
    except ValuesError as error:
        raise WordingError(f"The values do not fit the preset {found.name}: {error}.", error.fields) from error
    return Said(
        rendered, priority or found.priority or USUAL_PRIORITY, found.name, limits=limits.with_defaults(found.limits)
    )
