"""Counts the tokens and the cost of a run of Claude Code, which reports them in several places that overlap. No I/O.

The result of a turn reports the usage of every model since the last result (`model_usage_since_last_result`, version
2.1.328 and later), subagents included. Version 2.1.197 reports sums that grow over the run (`modelUsage`,
`total_cost_usd`) and begin anew with each resume and fork; in 2.1.332 they go on over the whole conversation. Until a
result comes, or when it reports no tokens because the turn was interrupted, the messages count: each once by its id, by
the highest numbers that any of its lines has.
"""

from __future__ import annotations

from collections.abc import Sequence

from onsembl.agent.drivers.json_lines import Json, as_count, as_number, as_object, as_text
from onsembl.protocol.field_types import MAX_COUNT
from onsembl.protocol.usage import NOTHING, Usage, add_counts, usage_of

_MESSAGE_FIELDS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_MODEL_FIELDS = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
Counts = dict[str, list[int]]
"""The counts of tokens of each model."""


class UsageCounter:
    """`usage` is the sum over the run so far, or None before anything was reported."""

    def __init__(self) -> None:
        self.model: str | None = None
        self._turns: int | None = None
        self._cost: float | None = None
        self._costs: dict[str, float] = {}
        self._reported: Counts = {}
        self._cumulative: tuple[Counts, dict[str, float], float] = ({}, {}, 0.0)
        self._messages: dict[str, tuple[str, Sequence[int]]] = {}
        """The messages since the last result, each with its model."""
        self._any = False

    @property
    def usage(self) -> Usage | None:
        """The usage so far."""
        if not self._any:
            return None
        parts = _joined(self._reported, self._in_messages())
        return usage_of(parts, model=self.model, turns=self._turns, cost_usd=self._cost, costs=self._costs)

    def message(self, identity: str, usage: object, model: object = None) -> None:
        """Count a message of a model, of which several lines report a growing usage."""
        if usage is None:
            return
        self._any = True
        counts = [as_count(as_object(usage).get(name)) for name in _MESSAGE_FIELDS]
        known, before = self._messages.get(identity, ("", NOTHING))
        self._messages[identity] = as_text(model) or known, _highest(before, counts)

    def result(self, result: Json) -> None:
        """Count the result of a turn."""
        self._any = True
        if "num_turns" in result:
            self._turns = min((self._turns or 0) + as_count(result.get("num_turns")), MAX_COUNT)
        parts, costs, cost = self._since_last_result(result)
        main = [as_count(as_object(result.get("usage")).get(name)) for name in _MESSAGE_FIELDS]
        self._reported = _joined(self._reported, self._completed(parts, main))
        self._messages = {}
        for model, part in costs.items():
            self._costs[model] = min(self._costs.get(model, 0.0) + part, float(MAX_COUNT))
        if cost is not None:
            self._cost = min((self._cost or 0.0) + cost, float(MAX_COUNT))

    def _completed(self, parts: Counts, main: list[int]) -> Counts:
        """The parts of a turn, with the tokens that the messages or the main loop report beyond them.

        The sums decide, not the models: the places may name one model differently.
        """
        messages = self._in_messages()
        if not any(map(any, parts.values())) and messages:
            parts = messages
        total = _sum(parts)
        wanted = _highest(total, _highest(main, _sum(messages)))
        missing = [most - counted for most, counted in zip(wanted, total, strict=True)]
        if not any(missing):
            return parts
        model = next(iter(parts), self.model or "") if self.model not in parts else self.model
        return _joined(parts, {model or "": missing})

    def _since_last_result(self, result: Json) -> tuple[Counts, dict[str, float], float | None]:
        """The tokens and the cost of each model since the last result, and the whole cost if it is reported."""
        since = result.get("model_usage_since_last_result")
        total_cost = as_number(result.get("total_cost_usd"))
        total, total_costs = _of_models(result.get("modelUsage")), _costs_of_models(result.get("modelUsage"))
        before, costs_before, cost_before = self._cumulative
        self._cumulative = (
            {model: _highest(before.get(model, NOTHING), total.get(model, NOTHING)) for model in before | total},
            {model: max(costs_before.get(model, 0.0), cost) for model, cost in (costs_before | total_costs).items()},
            max(cost_before, total_cost or 0.0),
        )
        if since is not None:
            costs = _costs_of_models(since)
            return _of_models(since), costs, sum(costs.values())
        parts = {
            model: [max(0, now - then) for now, then in zip(counts, before.get(model, NOTHING), strict=True)]
            for model, counts in total.items()
        }
        costs = {model: max(0.0, cost - costs_before.get(model, 0.0)) for model, cost in total_costs.items()}
        return parts, costs, None if total_cost is None else max(0.0, total_cost - cost_before)

    def _in_messages(self) -> Counts:
        parts: Counts = {}
        for model, counts in self._messages.values():
            key = model or self.model or ""
            parts[key] = add_counts(parts.get(key, NOTHING), counts)
        return parts


def _of_models(models: object) -> Counts:
    return {
        name: [as_count(as_object(model).get(field)) for field in _MODEL_FIELDS]
        for name, model in as_object(models).items()
    }


def _costs_of_models(models: object) -> dict[str, float]:
    return {
        name: min(cost, float(MAX_COUNT))
        for name, model in as_object(models).items()
        if (cost := as_number(as_object(model).get("costUSD"))) is not None and cost >= 0
    }


def _joined(first: Counts, second: Counts) -> Counts:
    """The sums of each model."""
    joined = dict(first)
    for model, counts in second.items():
        joined[model] = add_counts(joined.get(model, NOTHING), counts)
    return joined


def _sum(parts: Counts) -> list[int]:
    total: list[int] = list(NOTHING)
    for counts in parts.values():
        total = add_counts(total, counts)
    return total


def _highest(first: Sequence[int], second: Sequence[int]) -> list[int]:
    return [max(pair) for pair in zip(first, second, strict=True)]
