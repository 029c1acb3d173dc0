"""Runs programs and functions of the database without one of their guards, to show that a test fails then."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

FOLDER = "PYTHONPATH"
PATCH = "sitecustomize.py"


def without(folder: Path, patch: str) -> dict[str, str]:
    """An environment in which every Python process first runs `patch`, which removes the guard.

    Python runs a module `sitecustomize` before the program.
    """
    folder.mkdir()
    (folder / PATCH).write_text(patch)
    return {FOLDER: str(folder)}


def remove_guard(environment: Mapping[str, str]) -> None:
    """Run the patch of this environment, if it has one: a process that was forked has started without it."""
    patch = Path(environment.get(FOLDER, ""), PATCH)
    if patch.is_file():
        runpy.run_path(str(patch))


def remove_from_function(url: str, function: str, guard: str) -> None:
    """Define a function of the schema `onsembl` without this part of it, in the database at `url`."""
    with psycopg.connect(url) as conn:
        (definition,) = conn.execute("select pg_get_functiondef(%s::regproc)", [f"onsembl.{function}"]).fetchone() or ()
        assert definition.count(guard) == 1
        conn.execute(definition.replace(guard, ""))


def assert_fails(machine: type[RuleBasedStateMachine]) -> None:
    """Require that the state machine, from which the caller has removed a guard, finds a failure."""
    found = settings(
        max_examples=1000,
        stateful_step_count=40,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=found)
