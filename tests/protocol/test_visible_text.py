"""Hidden characters of foreign texts."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from onsembl.protocol.visible_text import visible, visible_lines

ALSO_IGNORABLE = [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180F, 0x3164, 0xFE00, 0xFE0F, 0xFFA0, 0xE0100]
"""Characters of other categories that Unicode's DerivedCoreProperties has as Default_Ignorable_Code_Point."""


def test_every_hidden_character_is_escaped():
    """Of all code points, each control, format, surrogate and separator character is shown by its number."""
    hidden = [
        code
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp", "Cs") or code in ALSO_IGNORABLE
    ]
    kept = [f"U+{code:04X}" for code in hidden if not visible(f"x{chr(code)}y").isascii()]
    assert kept == []


def test_visible_text_stays():
    """Letters of every script, marks, and emoji with their selectors and joiners are not changed."""
    for text in (
        "déjà vu",
        "привет",
        "שלום",
        "مرحبا",
        "नमस्ते",
        "日本語",
        "ﬁ e\u0301",
        "❤\ufe0f 👩\u200d💻 👍🏽 3\ufe0f\u20e3",
    ):
        assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x \x1b]0;owned\x07\x1b[2J", "x \\x1b]0;owned\\x07\\x1b[2J"),
        ("gro.\u202ekcatta", "gro.\\u202ekcatta"),
        ("one\nonline", "one\\nonline"),
        ("a\u200db \ufe0f", "a\\u200db \\ufe0f"),
        ("❤\ufe0f\ufe0f", "❤\ufe0f\\ufe0f"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_hidden_characters_are_shown_by_their_number(text: str, shown: str):
    """A joiner or a selector outside of an emoji is hidden, too."""
    assert visible(text) == shown


def test_a_text_of_lines_keeps_its_lines():
    """Line ends and tabs stay; a lone carriage return, which would overwrite the line, is shown."""
    assert visible_lines("one\r\n\ttwo\rthree\n") == "one\n\ttwo\\rthree\n"
