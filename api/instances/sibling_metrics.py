"""The metrics of all processes of one `onsembl up`, from whichever of them is asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from onsembl.api.settings import Settings

logger = logging.getLogger(__name__)

OWN = "own"
"""The value of the query `process` for the metrics of the asked process alone."""
SECONDS = 1.0
"""How long another process may take to answer, in seconds; the metrics of one that is slower are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class ProcessMetrics(Collector):
    """The metrics of several processes by name, each with the label `process`."""

    families: dict[str, list[Metric]]

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client for each reading."""
        joined: dict[str, Metric] = {}
        for process, families in self.families.items():
            for family in families:
                metric = joined.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                metric.samples += [
                    sample._replace(labels={**sample.labels, "process": process}) for sample in family.samples
                ]
        return iter(joined.values())


async def all_processes(own: CollectorRegistry, settings: Settings) -> ProcessMetrics:
    """The metrics of this process, and those that its siblings answer with."""
    headers = {"authorization": f"Bearer {settings.metrics_token}"} if settings.metrics_token is not None else {}
    async with httpx.AsyncClient(timeout=SECONDS, headers=headers, verify=False, trust_env=False) as client:  # noqa: S501 — all are on this machine
        answers = await asyncio.gather(*(_ask(client, url) for url in settings.siblings.values()))
    found = {settings.process: list(own.collect())}
    for name, families in zip(settings.siblings, answers, strict=True):
        if families is not None:
            found[name] = families
    return ProcessMetrics(dict(sorted(found.items())))


async def _ask(client: httpx.AsyncClient, url: str) -> list[Metric] | None:
    try:
        answer = await client.get(f"{url}/metrics", params={"process": OWN})
        answer.raise_for_status()
    except httpx.HTTPError as error:
        logger.warning("The metrics of %s are missing: %s", url, error, extra={"action": "metrics_missing"})
        return None
    return list(text_string_to_metric_families(answer.text))
