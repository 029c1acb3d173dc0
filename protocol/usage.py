"""What a run of a coding CLI cost."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of a coding CLI used, as the CLI reported it; tokens counted once a message id."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = None
    turns: int | None = None
    model: str | None = None

    @property
    def tokens(self) -> int:
        """What was read and written anew; what came out of a cache is not counted."""
        return self.input_tokens + self.output_tokens + self.cache_write_tokens
