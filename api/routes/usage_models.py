"""Models of usage and prices."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from onsembl.api.http.models import Answer, Body, Query, Time
from onsembl.protocol.field_types import END, ShortText
from onsembl.sql.usage import By

Pattern = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=rf"^[!-~]([ -~]*[!-~])?{END}",
        description="The name of a model in any case; `*` is any text.",
    ),
]
UsdPerMillion = Annotated[float, Meta(ge=0, le=1_000_000, description="USD per million tokens.")]
Day = Annotated[date, Meta(description="A day in UTC, such as 2026-01-31.")]


class PeriodQuery(Query, frozen=True, kw_only=True):
    """Turns that ended from `since` up to `until`; by default, those of the last 30 days."""

    since: Time | None = None
    until: Time | None = None


class UsageQuery(PeriodQuery, frozen=True, kw_only=True):
    """How turns are grouped. `time_zone` is that of the days, a name such as Europe/Berlin."""

    by: By = "day"
    time_zone: ShortText = "UTC"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class UsageSum(Answer, frozen=True, kw_only=True):
    """The usage of some turns, subagents included. The kinds of tokens do not overlap: `input_tokens` are neither read
    from a cache nor written to one."""

    turns: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: Annotated[float | None, Meta(description="null where the cost of no turn is known.")]
    estimated_usd: Annotated[float, Meta(description="The part of the cost that is estimated by the table of prices.")]
    unpriced_tokens: Annotated[int, Meta(description="Tokens without a cost: no price fits their model.")]
    partial_turns: Annotated[
        int, Meta(description="Turns whose CLI is not known to report all tokens: they used at least those counted.")
    ]


class UsageGroup(UsageSum, frozen=True, kw_only=True):
    """The usage of a group: `key` is the day, the model, the label, or the id of the agent, operator, conversation or
    command, empty for turns without one. `name` is its name for people."""

    key: str
    name: str


class UsageReport(Answer, frozen=True, kw_only=True):
    """The usage by groups, and of all turns of the period as `total`. Days come in order, other groups by their cost
    and tokens, the highest first. A turn counts to each label of its agent."""

    by: By
    since: Time
    until: Time
    groups: list[UsageGroup]
    total: UsageSum


class PricesBody(Body, frozen=True, kw_only=True):
    """The prices of the models that fit a pattern, from a day on, by default today. A cache's price that is left out is
    that of the input."""

    pattern: Pattern
    valid_from: Day | None = None
    input_usd: UsdPerMillion
    output_usd: UsdPerMillion
    cache_read_usd: UsdPerMillion | None = None
    cache_write_usd: UsdPerMillion | None = None


class Price(Answer, frozen=True, kw_only=True):
    """The prices of a pattern, in USD per million tokens, from a day on until that of its next prices."""

    id: int
    pattern: str
    valid_from: date
    input_usd: float
    output_usd: float
    cache_read_usd: float
    cache_write_usd: float
    updated_at: Time
    updated_by_name: str


class SetPrice(Price, frozen=True, kw_only=True):
    """Prices as they were set; `estimated` is the number of turns and models that got a cost by them."""

    estimated: int


class Prices(Answer, frozen=True, kw_only=True):
    """All prices by pattern, the newest of each first. The longest pattern that fits a model counts."""

    prices: list[Price] = msgspec.field(default_factory=list[Price])
