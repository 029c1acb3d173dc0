"""What the options of commands take, and what they make of it."""

from __future__ import annotations

import pytest

from onsembl.cli.client.options import server_url


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("https://onsembl.example.org/", "https://onsembl.example.org"),
        ("HTTPS://Onsembl.example.org", "https://Onsembl.example.org"),
        ("Http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_a_servers_url_has_its_scheme_in_small_letters(written: str, taken: str) -> None:
    """Sockets are opened at the URL whose `http` is replaced by `ws`."""
    assert server_url(written) == taken
