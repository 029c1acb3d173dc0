"""The tokens and the cost of a run of a coding CLI."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from onsembl.protocol.field_types import MAX_COUNT as MAX_COUNT
from onsembl.protocol.field_types import Count, ShortText


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The usage of a run of a coding CLI, as the CLI reports it; the tokens of a message count once."""

    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    cost_usd: Annotated[float, Meta(ge=0, le=MAX_COUNT)] | None = None
    turns: Count | None = None
    model: ShortText | None = None

    @property
    def tokens(self) -> int:
        """The tokens that count against a limit: all but those that were read from a cache."""
        return self.input_tokens + self.output_tokens + self.cache_write_tokens
