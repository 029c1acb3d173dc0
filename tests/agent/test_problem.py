"""The agent's problem: it begins with the first error in writing, and is over when everything can be written again."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import pytest
from agent.conftest import until

from onsembl.agent import program
from onsembl.agent.errors import AgentError
from onsembl.agent.link import problem as problem_module
from onsembl.agent.link.problem import FolderProblem
from onsembl.protocol.field_types import MAX_PROBLEM_BYTES


@pytest.fixture
def told() -> list[str | None]:
    """The problem at each call of `on_change`."""
    return []


@pytest.fixture
def problem(told, monkeypatch) -> FolderProblem:
    monkeypatch.setattr(problem_module, "ROOM_SECONDS", 0.0)
    problem = FolderProblem(lambda: told.append(problem.text))
    return problem


def test_a_problem_is_its_first_error(problem, told):
    """Later errors have the same cause, and the server is told once."""
    problem.report("The agent cannot write its spool: no space left")
    problem.report("The agent cannot write its journal: no space left")
    assert told == ["The agent cannot write its spool: no space left"]


@pytest.mark.parametrize("text", ["full \x1b[31m\n\0" * 200, "ä" * 300, "\ud800 in a path"])
def test_a_problem_can_be_sent(problem, told, text):
    """Whatever the error's text has, it is printable and within the bound."""
    problem.report(text)
    assert told == [problem.text]
    assert problem.text is not None
    assert 0 < len(problem.text.encode()) <= MAX_PROBLEM_BYTES
    assert problem.text.isprintable()


async def test_a_problem_is_over_when_everything_can_be_written(problem, told):
    """Each part is tried, also after another one that failed: output that waits needs no other file."""
    tries: list[str] = []
    room: set[str] = set()

    def retry(part: str) -> Callable[[], bool]:
        return lambda: tries.append(part) or part in room

    watching = asyncio.create_task(problem.watch([retry("journal"), retry("spool")]))
    problem.report("first")
    await until(lambda: tries[:4] == ["journal", "spool"] * 2, "two tries of each")
    room |= {"journal"}
    assert told == ["first"]
    room |= {"spool"}
    await until(lambda: told == ["first", None], "the end")
    count = len(tries)
    problem.report("second")
    await until(lambda: told == ["first", None, "second", None], "the next problem")
    assert len(tries) == count + 2
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_start_waits_for_room_in_a_folder_that_takes_no_new_file(monkeypatch, tmp_path):
    """Any other error needs a person, and ends the start with its reason."""
    monkeypatch.setattr(program, "ROOM_SECONDS", 0.0)
    errors = [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "past the quota")]

    def use() -> str:
        if errors:
            raise errors.pop()
        return "used"

    assert await program._retried(use, tmp_path) == "used"
    errors.append(OSError(errno.EACCES, "not yours"))
    with pytest.raises(AgentError, match="cannot be used: not yours"):
        await program._retried(use, tmp_path)
