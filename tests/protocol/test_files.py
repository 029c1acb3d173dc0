"""What is shown of an agent's working folder, by its name, and how an answer travels."""

from __future__ import annotations

import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.field_types import MAX_COUNT
from onsembl.protocol.files import (
    MAX_ENTRIES,
    MAX_FILE_BYTES,
    Entry,
    FileRules,
    Seen,
    parts_of,
    refusal,
    seen_of,
    split,
)
from onsembl.protocol.messages import MAX_MESSAGE_BYTES, decode_from_agent, encode_for_server

ID = UUID("0b0e0000-0000-4000-8000-000000000000")
DEFAULT = FileRules()


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("", ()),
        (".", ()),
        ("src//./a.py/", ("src", "a.py")),
        ("..", None),
        ("src/../../etc/passwd", None),
        ("src/..", None),
        ("/etc/passwd", None),
        ("a\0b", None),
        ("x/" * 65, None),
        ("x" * 256, None),
        ("...", ("...",)),
    ],
)
def test_a_path_stays_within_its_folder(path, names):
    assert split(path) == names


@given(st.text(st.sampled_from("a./\\\0"), max_size=12))
def test_no_path_has_a_name_that_leads_elsewhere(path):
    names = split(path)
    assert names is None or (not {"", ".", ".."} & set(names) and not any("/" in name for name in names))


@pytest.mark.parametrize(
    ("path", "rules", "shown"),
    [
        ("src/app.py", DEFAULT, True),
        (".env", DEFAULT, False),
        ("deploy/.ENV.production", DEFAULT, False),
        ("config/prod.env", DEFAULT, False),
        (".git/config", DEFAULT, False),
        ("a/.ssh/known_hosts", DEFAULT, False),
        ("id_ed25519.pub", DEFAULT, False),
        ("server.PEM", DEFAULT, False),
        ("environment.py", DEFAULT, True),
        ("keys.py", DEFAULT, True),
        (".env", FileRules(secrets=[]), True),
        (".git/config", FileRules(ignored=[]), True),
        ("docs/private/plan.md", FileRules(secrets=["docs/private"]), False),
        ("docs/private", FileRules(secrets=["/docs/private/"]), False),
        ("other/docs/private", FileRules(secrets=["docs/private"]), True),
        ("caf\u00e9.txt", FileRules(secrets=["cafe\u0301.txt"]), False),
        ("src/a.py", FileRules(roots=["src"]), True),
        ("src", FileRules(roots=["src/api"]), True),
        ("src/web", FileRules(roots=["src/api"]), False),
        ("srcs/a.py", FileRules(roots=["src"]), False),
        ("", FileRules(roots=["src"]), True),
        ("src/.env", FileRules(roots=["src"]), False),
        ("a", FileRules(roots=[".."]), False),
    ],
)
def test_rules_hide_names(path, rules, shown):
    """By the roots, and by patterns of any name on the way, which do not tell upper from lower case."""
    names = split(path)
    assert names is not None and (refusal(names, rules) is None) == shown


@given(st.lists(st.sampled_from([".env", "src", "a.py", ".git", "key.pem"]), max_size=4))
def test_nothing_below_a_hidden_name_is_shown(names):
    if set(names) & {".env", ".git", "key.pem"}:
        assert refusal(names, DEFAULT) is not None


def test_hostile_patterns_take_no_time():
    began = time.process_time()
    refusal(("a" * 255,) * 4, FileRules(secrets=["*a" * 64] * 100))
    assert time.process_time() - began < 2.0


@given(
    st.builds(
        Seen,
        path=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
        kind=st.sampled_from(["folder", "text", "binary"]),
        size=st.none() | st.integers(0, MAX_COUNT),
        text=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
        entries=st.lists(st.builds(Entry, name=st.text(max_size=9), kind=st.just("file")), max_size=3),
    ).filter(lambda seen: all(entry.name.isprintable() for entry in seen.entries))
)
def test_an_answer_arrives_as_it_was_sent(seen):
    assert seen_of([part.text for part in parts_of(ID, seen)]) == seen


@pytest.mark.parametrize("character", ["x", "\n", '"', "\u20ac", "\x1b", "\U0001f600"])
def test_every_part_of_a_file_fits_into_a_message(character):
    """Also of a file that is all quotes; one that is all control characters is too large to be shown."""
    length = MAX_FILE_BYTES // len(character.encode())
    parts = parts_of(ID, Seen(path="a", kind="text", size=MAX_FILE_BYTES, text=character * length))
    for part in parts:
        frame = encode_for_server(part)
        assert len(frame.encode()) <= MAX_MESSAGE_BYTES and decode_from_agent(frame) == part
    seen = seen_of([part.text for part in parts])
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert seen.kind == ("too_large" if character == "\x1b" else "text")


def test_a_whole_folder_fits():
    entries = [Entry(name=f"{number:04}" + "\u20ac" * 83, kind="file", size=MAX_COUNT) for number in range(MAX_ENTRIES)]
    seen = Seen(path="a", kind="folder", entries=entries)
    assert seen_of([part.text for part in parts_of(ID, seen)]) == seen
