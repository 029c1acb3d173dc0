"""What every command prints."""

from __future__ import annotations

import pytest

from onsembl.cli.output import local_time, print_field


@pytest.mark.parametrize("text", ["unreadable: the time infinity is out of range", "9999-12-31T23:59:59-12:00", ""])
def test_a_time_that_cannot_be_read_is_shown_as_it_is(text):
    """An answer's error in the place of a time, and a time that no local clock has, are printed as they are."""
    assert local_time(text) == text


def test_a_time_is_shown_by_the_local_clock():
    """A time is shown without its offset, to the second."""
    assert local_time("2026-01-02T03:04:05.6+00:00").startswith("2026-01-0")


def test_a_field_of_several_values_is_shown_as_text(capsys):
    """An object has its fields in a line, without the empty ones; a list has its values below one another."""
    print_field(
        "usage", {"turns": 2, "cost_usd": None, "is_known": True, "models": [{"model": "a\x1b"}, {"model": "b"}]}
    )
    print_field("pids", [])
    usage, second, pids = capsys.readouterr().out.splitlines()
    assert usage.split() == ["usage", "turns", "2,", "is", "known", "yes,", "models", "model", "a\\x1b"]
    assert second == " " * 21 + "model b"
    assert pids.strip() == "pids"
