"""The address at which a worker is woken."""

from __future__ import annotations

import httpx
import pytest
from support.ports import free_port

from onsembl.cli.server.wake_server import serve_wake

BEARER = {"authorization": "Bearer wake up, please"}


@pytest.mark.parametrize(
    ("secret", "method", "headers", "status"),
    [
        ("wake up, please", "POST", BEARER, 204),
        ("wake up, please", "POST", {}, 401),
        ("wake up, please", "POST", {"authorization": "Bearer wake up"}, 401),
        ("wake up, please", "GET", BEARER, 405),
        ("", "POST", {}, 204),
    ],
)
def test_a_request_with_the_secret_is_answered(monkeypatch, secret, method, headers, status):
    """A POST is answered, with the secret if one is set."""
    monkeypatch.setenv("ONSEMBL_WORKER_WAKE_SECRET", secret)
    port = free_port()
    with serve_wake("127.0.0.1", port):
        answer = httpx.request(method, f"http://127.0.0.1:{port}/", headers=headers, timeout=60)
    assert answer.status_code == status
