"""Targets of the benchmarks, and whether they are met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Measures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound for one value, with its text. `met` compares Onsembl's values with the peer's; None without a peer."""

    figure: str
    text: str
    met: Callable[[Measures, Measures], bool | None]


def at_most(figure: str, bound: float) -> Target:
    return Target(figure, f"≤ {bound:g}", lambda ours, _: ours[figure] <= bound)


def at_least(figure: str, bound: float) -> Target:
    return Target(figure, f"≥ {bound:g}", lambda ours, _: ours[figure] >= bound)


def at_most_times(figure: str, other: str, factor: float) -> Target:
    """A bound relative to another value of Onsembl's own."""
    return Target(figure, f"≤ {factor:g} × {other}", lambda ours, _: ours[figure] <= factor * ours[other])


def at_most_the_peers(figure: str) -> Target:
    return Target(figure, "≤ the peer's", lambda ours, peer: ours[figure] <= peer[figure] if figure in peer else None)


def at_least_the_peers(figure: str, factor: float = 1.0) -> Target:
    return Target(
        figure,
        f"≥ {factor:g} × the peer's",
        lambda ours, peer: ours[figure] >= factor * peer[figure] if figure in peer else None,
    )
