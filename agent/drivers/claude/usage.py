"""Counts the tokens and the cost of a run of Claude Code, which reports them in several places that overlap. No I/O.

The result of a turn reports the usage of every model since the last result (`model_usage_since_last_result`, version
2.1.328 and later), subagents included. Older versions report sums that grow over the run (`modelUsage`,
`total_cost_usd`). Until a result comes, or when it reports no tokens because the turn was interrupted, the messages of
the main conversation count: each once by its id, by the highest numbers that any of its lines has.
"""

from __future__ import annotations

from onsembl.agent.drivers.json_lines import Json, as_count, as_number, as_object
from onsembl.protocol.field_types import MAX_COUNT
from onsembl.protocol.usage import Usage

_MESSAGE_FIELDS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_MODEL_FIELDS = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
_NOTHING = [0, 0, 0, 0]


class UsageCounter:
    """`usage` is the sum over the run so far, or None before anything was reported."""

    def __init__(self) -> None:
        self.model: str | None = None
        self._turns: int | None = None
        self._cost: float | None = None
        self._reported = list(_NOTHING)
        self._cumulative: tuple[list[int], float] = (list(_NOTHING), 0.0)
        self._messages: dict[str, list[int]] = {}
        """The messages since the last result."""
        self._any = False

    @property
    def usage(self) -> Usage | None:
        """The usage so far."""
        if not self._any:
            return None
        tokens = _add(self._reported, self._in_messages())
        return Usage(
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cache_read_tokens=tokens[2],
            cache_write_tokens=tokens[3],
            cost_usd=self._cost,
            turns=self._turns,
            model=self.model,
        )

    def message(self, identity: str, usage: object) -> None:
        """Count a message of the model, of which several lines report a growing usage."""
        if usage is None:
            return
        self._any = True
        counts = [as_count(as_object(usage).get(name)) for name in _MESSAGE_FIELDS]
        self._messages[identity] = _highest(self._messages.get(identity, _NOTHING), counts)

    def result(self, result: Json) -> None:
        """Count the result of a turn."""
        self._any = True
        if "num_turns" in result:
            self._turns = min((self._turns or 0) + as_count(result.get("num_turns")), MAX_COUNT)
        tokens, cost = self._since_last_result(result)
        main = [as_count(as_object(result.get("usage")).get(name)) for name in _MESSAGE_FIELDS]
        self._reported = _add(self._reported, _highest(tokens, _highest(main, self._in_messages())))
        self._messages = {}
        if cost is not None:
            self._cost = min((self._cost or 0.0) + cost, float(MAX_COUNT))

    def _since_last_result(self, result: Json) -> tuple[list[int], float | None]:
        since = result.get("model_usage_since_last_result")
        total_cost = as_number(result.get("total_cost_usd"))
        total = _sum_of_models(result.get("modelUsage"))
        before, cost_before = self._cumulative
        self._cumulative = (_highest(before, total), max(cost_before, total_cost or 0.0))
        if since is not None:
            return _sum_of_models(since), _cost_of_models(as_object(since))
        difference = [max(0, now - then) for now, then in zip(total, before, strict=True)]
        return difference, None if total_cost is None else max(0.0, total_cost - cost_before)

    def _in_messages(self) -> list[int]:
        return [sum(counts) for counts in zip(*self._messages.values(), strict=True)] or list(_NOTHING)


def _sum_of_models(models: object) -> list[int]:
    counts = [[as_count(as_object(model).get(name)) for name in _MODEL_FIELDS] for model in as_object(models).values()]
    return [sum(column) for column in zip(*counts, strict=True)] or list(_NOTHING)


def _cost_of_models(models: Json) -> float:
    return sum(max(0.0, as_number(as_object(model).get("costUSD")) or 0.0) for model in models.values())


def _add(first: list[int], second: list[int]) -> list[int]:
    return [min(a + b, MAX_COUNT) for a, b in zip(first, second, strict=True)]


def _highest(first: list[int], second: list[int]) -> list[int]:
    return [max(pair) for pair in zip(first, second, strict=True)]
