"""The tokens of a turn of Codex, by model. No I/O."""

from __future__ import annotations

from onsembl.agent.drivers.json_lines import Json, as_count, as_object
from onsembl.protocol.usage import NOTHING, Usage, add_counts, usage_of


class UsageCounter:
    """Sums the calls of the model, reported once each; the sums that Codex reports beside are the whole thread's."""

    def __init__(self) -> None:
        self._used: dict[str, list[int]] = {}
        """The tokens of each model: input, output, cache read, cache write."""
        self.context: tuple[int, int] | None = None
        """The tokens of the thread that the model has read last, and how many it can read."""

    def count(self, usage: Json, model: str, *, own: bool) -> None:
        """Count one call of the model; `own` says that it is not of a subagent."""
        last = as_object(usage.get("last"))
        names = ("inputTokens", "outputTokens", "cachedInputTokens", "cacheWriteInputTokens")
        entered, written, read, stored = (as_count(last.get(name)) for name in names)
        counts = (max(0, entered - read - stored), written, read, stored)  # Codex's input includes the cache
        self._used[model] = add_counts(self._used.get(model, NOTHING), counts)
        if own and (window := as_count(usage.get("modelContextWindow"))):
            self.context = as_count(last.get("totalTokens")), window

    def usage(self, model: str | None, turns: int | None) -> Usage | None:
        """The tokens so far; None before any were reported. Codex reports no cost."""
        return usage_of(self._used, model=model, turns=turns) if self._used else None
