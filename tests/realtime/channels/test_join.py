"""Parsing the payload of a join."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.realtime.channels.join import Replay, parse_join

NONSENSE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.lists(st.integers())
    | st.dictionaries(st.text(), st.integers())
)


def test_a_join_with_every_field():
    """Every field of a join is parsed."""
    request = parse_join(
        {
            "access_token": "jwt",
            "config": {
                "private": True,
                "broadcast": {"ack": True, "self": "True", "replay": {"since": 5, "limit": 99}, "replication_ready": 1},
                "presence": {"enabled": "true", "key": "ann"},
                "postgres_changes": [{"event": "*", "schema": "public"}, None],
                "postgres_changes_options": {"wait": True, "timeout": 1500},
            },
        }
    )
    assert (request.token, request.private, request.ack, request.to_self) == ("jwt", True, True, True)
    assert (request.presence, request.presence_key) == (True, "ann")
    assert request.replay == Replay(5, 25)
    assert request.postgres_changes == ({"event": "*", "schema": "public"},)
    assert (request.wait, request.wait_timeout) == (True, 1.5)
    assert request.problems == ["replication_ready: unable to parse, expected boolean"]


def test_an_empty_join():
    """An empty join enables nothing and gets a random presence key."""
    request = parse_join({})
    assert (request.token, request.private, request.ack, request.to_self, request.presence) == (None, *[False] * 4)
    assert len(request.presence_key) == 36
    assert request.problems == []


@pytest.mark.parametrize(
    ("payload", "token"),
    [
        ({"access_token": "a"}, "a"),
        ({"user_token": "u"}, "u"),
        ({"access_token": "sb_publishable_x"}, None),
        ({"access_token": None}, None),
        ({"access_token": 5}, None),
    ],
)
def test_which_token_counts(payload, token):
    """`user_token` is an old name of `access_token`; a key or another type counts as no token."""
    assert parse_join(payload).token == token


FIELDS = (
    "ack",
    "self",
    "replay",
    "replication_ready",
    "private",
    "enabled",
    "key",
    "postgres_changes",
    "wait",
    "timeout",
)


@given(st.dictionaries(st.sampled_from(FIELDS), NONSENSE), NONSENSE, NONSENSE)
def test_nonsense_is_never_an_error(fields, config, inner):
    """A field of a wrong type counts as absent."""
    parse_join({"config": config, "access_token": inner})
    parse_join({"config": {name: fields for name in ("broadcast", "presence", "postgres_changes_options")} | fields})
