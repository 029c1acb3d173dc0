"""The project's API keys."""

from __future__ import annotations

import re

import pytest

from onsembl.realtime.keys import PUBLISHABLE, SECRET, Prefix, ProjectKeys, is_well_formed, new_key


@pytest.mark.parametrize("prefix", [PUBLISHABLE, SECRET])
def test_makes_keys_of_supabase_s_format(prefix: Prefix) -> None:
    """A key is a prefix, 22 random characters and 8 of a checksum; no two keys are equal."""
    keys = {new_key(prefix) for _ in range(200)}
    assert len(keys) == 200
    for key in keys:
        assert re.fullmatch(prefix + r"[A-Za-z0-9_-]{22}_[A-Za-z0-9_-]{8}", key)
        assert is_well_formed(key)


def test_a_mistyped_key_is_detected() -> None:
    """A key with one changed character has a wrong checksum."""
    key = new_key(PUBLISHABLE)
    for position in range(len(PUBLISHABLE), len(key)):
        other = "a" if key[position] != "a" else "b"
        assert not is_well_formed(key[:position] + other + key[position + 1 :])
    assert not is_well_formed("")
    assert not is_well_formed("schlüssel_mit_ümlauten")


def test_each_key_stands_for_a_role() -> None:
    """The publishable key acts as anon, the secret key as service_role; no other key has a role."""
    keys = ProjectKeys(new_key(PUBLISHABLE), new_key(SECRET))
    assert keys.role_of(keys.publishable) == "anon"
    assert keys.role_of(keys.secret) == "service_role"
    assert keys.role_of(new_key(SECRET)) is None
    assert keys.role_of("") is None
    assert keys.role_of("é") is None
