"""Request ids: which ids of clients are valid, and where an id is current."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from onsembl.protocol import request_ids
from onsembl.protocol.request_ids import RequestId

GOOD = ["a", "deploy-4711", "0198c9f4-8e0e-7e1a-b1f2-5a4c3d2e1f00", "Root=1-5759e988-bd862e3f", "a+/b=", "x" * 128]
BAD = [
    "",
    "x" * 129,
    "a b",
    "a\n",
    "a\r\nSet-Cookie: x",
    "a\x00b",
    "a\x1b[31m",
    "-a",
    '{"a":1}',
    "a;b",
    "é",
    "a\u2028b",
]


@pytest.mark.parametrize("text", GOOD)
def test_an_ordinary_id_is_taken(text):
    """The check and the message's type accept an ordinary id."""
    assert request_ids.well_formed(text)
    assert msgspec.convert(text, RequestId) == text


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_not(text):
    """The check rejects an id that is too long or that a log or a header could misread."""
    assert not request_ids.well_formed(text)


def test_new_ids_are_well_formed_and_differ():
    """New ids are valid and differ from each other."""
    assert request_ids.well_formed(request_ids.new())
    assert request_ids.new() != request_ids.new()


async def test_an_id_is_in_force_in_its_block_and_in_the_tasks_made_there():
    """An id is current in its block and in the tasks that are created there, and nowhere else."""
    seen = []

    async def look() -> None:
        await asyncio.sleep(0)
        seen.append(request_ids.current())

    with request_ids.in_force("a"):
        task = asyncio.create_task(look())
        with request_ids.in_force(None):
            assert request_ids.current() is None
    assert request_ids.current() is None
    await task
    assert seen == ["a"]
