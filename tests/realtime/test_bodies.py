"""Bodies that do not arrive."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.types import Message

from onsembl.realtime.bodies import BodyRejected, read_body


async def test_a_client_that_leaves_is_no_error_of_the_server():
    """A client that closes its connection during its request gets a rejection, not a failure of the application."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(BodyRejected) as rejected:
        await read_body(Request({"type": "http", "method": "GET", "headers": []}, receive), 100)
    assert rejected.value.status == 400
