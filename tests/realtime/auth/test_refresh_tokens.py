"""Refresh tokens, which are derived and not stored."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.realtime.auth.refresh_tokens import RefreshToken, TokenUse, classify_use

SECRET = b"s" * 32


@given(st.uuids(), st.integers(min_value=0, max_value=2**32 - 1))
def test_a_token_is_parsed_as_it_was_made(session_id: UUID, counter: int) -> None:
    """A token's text holds its session and its counter."""
    token = RefreshToken(session_id, counter)
    assert RefreshToken.parse(token.text(SECRET), SECRET) == token


@given(st.integers(min_value=0), st.sampled_from("Aa0-_"))
def test_a_changed_token_is_rejected(position: int, character: str) -> None:
    """A token with any changed character is not valid."""
    text = RefreshToken(uuid4(), 3).text(SECRET)
    position %= len(text)
    changed = text[:position] + character + text[position + 1 :]
    assert changed == text or RefreshToken.parse(changed, SECRET) is None


@given(st.text())
def test_any_text_is_parsed(text: str) -> None:
    """Any text is parsed as a token or as None."""
    assert RefreshToken.parse(text, SECRET) is None


def test_another_server_s_token_is_rejected() -> None:
    """A token that was made with another project's secret is not valid."""
    assert RefreshToken.parse(RefreshToken(uuid4(), 0).text(b"other" * 7), SECRET) is None


@pytest.mark.parametrize(
    ("presented", "good", "since_refresh", "use"),
    [
        (5, 5, 0.0, TokenUse.CURRENT),
        (5, 5, 1e6, TokenUse.CURRENT),
        (4, 5, 1.0, TokenUse.REUSED),
        (4, 5, 1e6, TokenUse.REUSED),
        (2, 5, 9.9, TokenUse.REUSED),
        (3, 5, 10.0, TokenUse.STOLEN),
        (0, 5, 1e6, TokenUse.STOLEN),
        (6, 5, 1.0, TokenUse.UNKNOWN),
    ],
)
def test_a_token_is_classified_by_its_counter(presented: int, good: int, since_refresh: float, use: TokenUse) -> None:
    """The current token and its parent are accepted, older ones for ten seconds, and then they are stolen."""
    assert classify_use(presented, good, since_refresh, 10.0) is use
