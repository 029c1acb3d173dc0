"""Three instances, two workers and an edge under faults: every byte, command, step and answer is accounted for. The
edge is Fly's proxy, nginx or Caddy.

`ONSEMBL_CHAOS_FAULTS` is the number of faults in the long form (default 500). `--seed` repeats the random choices of a
run, which prints its seed.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from chaos import many_instances, test_soak
from chaos.many_instances import MACHINES, ManyInstances
from chaos.test_soak import Form
from support.missing_guards import without
from support.reverse_proxies import REVERSE_PROXIES

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

LONG = int(os.environ.get("ONSEMBL_CHAOS_FAULTS", "500"))


@asynccontextmanager
async def under_faults(
    postgres: EmbeddedPostgres,
    folder: Path,
    seed: int,
    form: Form,
    asking: int,
    first: str | None = None,
    *,
    edge: str = "fly",
    **environment: str,
) -> AsyncGenerator[ManyInstances]:
    async with AsyncExitStack() as stack:
        center = ManyInstances(seed, stack, form, asking, first, edge)
        await center.start(postgres, folder, **environment)
        yield center


SHORT = Form(0.0, 0.5, 1.0, agents=2, most_at_once=4, most_pause=0.6)
"""The form of the default run, each fault once. It takes one of the two kinds of edges by its seed."""
MIDDLE = Form(0.0, 0.5, 2.0, agents=3, most_at_once=4, faults=25)
FAULTS = Form(0.0, 5.0, 40.0, agents=14, most_at_once=4, faults=LONG, most_pause=4.0)


@pytest.mark.seconds(15)
@pytest.mark.parametrize(
    ("form", "asking", "edge"),
    [
        pytest.param(SHORT, 1, None, id="short"),
        pytest.param(MIDDLE, 2, None, id="middle", marks=pytest.mark.soak),
        *(
            pytest.param(MIDDLE, 2, edge, id=edge, marks=[pytest.mark.package, pytest.mark.timeout(1200)])
            for edge in REVERSE_PROXIES
        ),
        *(
            pytest.param(FAULTS, 6, edge, id=name, marks=[pytest.mark.soak, pytest.mark.timeout(1200 + 20 * LONG)])
            for edge, name in (("fly", "long on Fly"), ("relays", "long with relays"))
        ),
    ],
)
async def test_everything_is_accounted_for(own_postgres, tmp_path, seed, form, asking, edge):
    """After kills, stops and drains of instances and cut and silent links, each command ran once and ended right, each
    viewer and the archive have every byte, each answer was given once and each step is there."""
    edge = edge or ("fly", "relays")[seed % 2]
    async with under_faults(own_postgres, tmp_path, seed, form, asking, edge=edge) as center:
        await center.run_soak()
        await center.check()


PAST_OWNER_SERVES = """
from onsembl.api.terminals.hub import Hub

Hub.release = lambda *_, **__: None
"""
"""A guard that the test removes: an instance whose agent has connected elsewhere, under a later epoch, lets go of its
terminal."""


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_past_owner_that_serves_on_is_found(own_postgres, tmp_path, seed, monkeypatch):
    """Without the fence of the epoch, a viewer stays at the instance from which its agent has moved."""
    monkeypatch.setattr(test_soak, "SETTLE_SECONDS", 60.0)
    monkeypatch.setattr(many_instances, "SEEN_SECONDS", 10.0)
    form, guard = Form(5.0, 0.2, 1.0, agents=3, most_at_once=1), without(tmp_path / "guard", PAST_OWNER_SERVES)
    async with under_faults(own_postgres, tmp_path, seed, form, 0, MACHINES[0], **guard) as center:
        center.edge.first = MACHINES[1]  # where all agents go
        with pytest.raises(AssertionError, match="was left at byte"):
            await center.run_soak("cut_agents")
            await center.check()
