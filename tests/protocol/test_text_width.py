"""The columns of text in a terminal, by its graphemes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from onsembl.protocol.text_width import columns, cut, graphemes, is_simple


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("plain", 5),
        ("größe ✓", 7),
        ("漢字", 4),
        ("e\u0301", 1),
        ("👍🏽", 2),
        ("👩‍👩‍👧‍👦", 2),
        ("❤️", 2),
        ("✈", 1),
        ("✈️", 2),
        ("🇩🇪", 2),
        ("\U0001fae9", 2),
        ("\u200b", 0),
    ],
)
def test_columns_are_those_of_todays_unicode(text, width):
    """A grapheme takes one or two columns, however many characters it has."""
    assert columns(text) == width


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=40), st.integers(0, 20))
def test_a_cut_fits_and_loses_nothing_else(text, limit):
    """The cut is a beginning of the text that fits; the next grapheme would not."""
    kept = cut(text, limit)
    assert text.startswith(kept)
    assert columns(kept) <= limit
    rest = text[len(kept) :]
    if rest:
        assert columns(kept) + next(width for _, width in graphemes(rest)) > limit


@given(st.characters(exclude_categories=("Cc", "Cs")))
def test_simple_characters_take_one_column(character):
    """The quick way gives the same columns as the slow one."""
    if is_simple(character):
        assert wcswidth(character) == 1
        assert wcswidth(character + "e") == 2
        assert len(list(graphemes(f"e{character}e"))) == 3
