"""The tokens and the cost of a run of a coding CLI, by model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from onsembl.protocol.field_types import MAX_COUNT as MAX_COUNT
from onsembl.protocol.field_types import Count, ShortText

MAX_MODELS = 32
"""The most models of which one run reports the usage; further ones count to the last."""
MAX_MODEL_NAME = 128
NOTHING = (0, 0, 0, 0)
CostUsd = Annotated[float, Meta(ge=0, le=MAX_COUNT)]


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of tokens. The kinds do not overlap: `input_tokens` are neither read from a cache nor written to one."""

    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Input, output, cache read, cache write."""
        return self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_write_tokens


class ModelUsage(Tokens, frozen=True, kw_only=True):
    """The part of one model; the cost is None where the CLI does not report it."""

    model: Annotated[str, Meta(max_length=MAX_MODEL_NAME, pattern=r"^[^\x00]*$")]
    cost_usd: CostUsd | None = None


class Usage(Tokens, frozen=True, kw_only=True):
    """The usage of a run of a coding CLI, subagents included, as the CLI reports it; each message counts once.

    `models` has its parts. Without them, as from an older agent, all of it counts to `model`. It is `partial` if the
    CLI is not known to report all tokens of the run.
    """

    cost_usd: CostUsd | None = None
    turns: Count | None = None
    model: ShortText | None = None
    models: Annotated[list[ModelUsage], Meta(max_length=MAX_MODELS)] = []
    partial: bool = False

    @property
    def tokens(self) -> int:
        """The tokens that count against a limit: all but those that were read from a cache."""
        return self.input_tokens + self.output_tokens + self.cache_write_tokens


def usage_of(
    parts: Mapping[str, Iterable[int]],
    *,
    model: str | None,
    turns: int | None,
    cost_usd: float | None = None,
    costs: Mapping[str, float] | None = None,
    partial: bool = False,
) -> Usage:
    """The usage whose parts are the counts (input, output, cache read, cache write) of each model.

    `costs` has the cost of each model, `cost_usd` that of all of them. If only the latter is known and several models
    took part, each has the share of its tokens. Counts and names are cut to their bounds.
    """
    merged: dict[str, list[int]] = {}
    priced: dict[str, float] = {}
    for name, row in parts.items():
        counts = list(row)
        if not any(counts) and not (costs or {}).get(name):
            continue
        key = name.replace("\0", "")[:MAX_MODEL_NAME]
        if key not in merged and len(merged) == MAX_MODELS:
            key = next(reversed(merged))
        merged[key] = add_counts(merged.get(key, NOTHING), counts)
        if costs is not None and name in costs:
            priced[key] = min(priced.get(key, 0.0) + costs[name], float(MAX_COUNT))
    total = list(NOTHING)
    for counts in merged.values():
        total = add_counts(total, counts)
    if cost_usd is not None and not priced:
        everything = sum(total)
        shares = {key: sum(counts) / everything if everything else 1 / len(merged) for key, counts in merged.items()}
        priced = {key: cost_usd * share for key, share in shares.items()}
    return Usage(
        **_fields(total),
        cost_usd=cost_usd,
        turns=turns,
        model=model,
        models=[ModelUsage(model=key, cost_usd=priced.get(key), **_fields(counts)) for key, counts in merged.items()],
        partial=partial,
    )


def add_counts(first: Iterable[int], second: Iterable[int]) -> list[int]:
    """The sums of two rows of counts, at most `MAX_COUNT`."""
    return [min(a + b, MAX_COUNT) for a, b in zip(first, second, strict=True)]


def _fields(counts: Iterable[int]) -> dict[str, int]:
    return dict(zip(Tokens.__struct_fields__, counts, strict=True))
