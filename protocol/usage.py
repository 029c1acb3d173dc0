"""The tokens and the cost of a run of a coding CLI."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The usage of a run of a coding CLI, as the CLI reports it; the tokens of a message count once."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = None
    turns: int | None = None
    model: str | None = None

    @property
    def tokens(self) -> int:
        """The tokens that count against a limit: all but those that were read from a cache."""
        return self.input_tokens + self.output_tokens + self.cache_write_tokens
