"""`onsembl commands trace --follow`, with a server whose answers are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from support.command_line import run_in_process
from support.subcommands import AnyServer

from onsembl.cli.client import trace

COMMAND = "00000000-0000-4000-8000-000000000001"
Follow = Callable[..., list[str]]


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Follow:
    """Follow a command. `rounds` has its state in each round of questions, and the steps that are new by then; the last
    one stays. Return the titles of the steps that are printed."""
    monkeypatch.setattr(trace, "POLL_SECONDS", 0.0)
    any_server = AnyServer("text")

    def follow(*rounds: tuple[str, dict[str, str]], turn: bool = True) -> list[str]:
        at, listed = -1, []

        def answer(_: object, request: httpx.Request) -> httpx.Response:
            nonlocal at
            answered = any_server(request).json()
            after = int(request.url.params.get("after", -1))
            if after < 0:
                return httpx.Response(200, json={**answered, "state": state(), "turn": {} if turn else None})
            if at + 1 < len(rounds):
                at += 1
                for title, kind in rounds[at][1].items():
                    number = len(listed) + 1
                    step = {**answered["steps"][0], "number": number, "changed": number, "kind": kind, "parent": None}
                    listed.append({**step, "title": title, "denied": False, "status": "completed"})
            elif state() != "running":
                monkeypatch.setattr(trace, "LAST_STEPS_SECONDS", -1.0)  # they have had their time
            new = [step for step in listed if step["changed"] > after]
            return httpx.Response(200, json={"steps": new, "next_after": None})

        def state() -> str:
            return rounds[min(at + 1, len(rounds) - 1)][0]

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
        environment: dict[str, Any] = {"ONSEMBL_SERVER": "https://server.test", "ONSEMBL_TOKEN": "token"}
        done = run_in_process("commands", "trace", COMMAND, "--follow", environment=environment)
        assert done.returncode == 0, done
        return [line.split(": ")[1].split(" · ")[0] for line in done.stdout.splitlines()]

    return follow


def test_steps_that_arrive_after_the_end_are_printed(follow: Follow):
    """Steps and the end of a command come on ways of their own: the last step is awaited."""
    rounds: tuple[tuple[str, dict[str, str]], ...] = (
        ("running", {"one": "message"}),
        ("succeeded", {"two": "tool"}),
        ("succeeded", {}),
        ("succeeded", {"three": "message"}),
        ("succeeded", {"end": "result"}),
    )
    assert follow(*rounds) == ["one", "two", "three", "end"]


def test_a_result_is_not_the_end_of_the_command(follow: Follow):
    """A background subagent begins a turn that has a result of its own."""
    rounds: tuple[tuple[str, dict[str, str]], ...] = (
        ("running", {"one": "message", "first": "result"}),
        ("running", {}),
        ("succeeded", {"two": "message"}),
        ("succeeded", {}),
        ("succeeded", {"last": "result"}),
    )
    assert follow(*rounds) == ["one", "first", "two", "last"]


def test_a_killed_command_is_not_awaited_for_ever(follow: Follow):
    """A turn whose program was killed has no result, and a command of a shell has no steps."""
    assert follow(("running", {"one": "tool"}), ("lost", {})) == ["one"]
    assert follow(("succeeded", {}), turn=False) == []
