"""A command line that calls for a person: its request is open until somebody types or the program goes on."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from agent.conftest import until

from onsembl.agent.drivers import idle_watch, shell
from onsembl.agent.drivers.shell import ShellDriver
from onsembl.agent.requests import Requests
from onsembl.protocol.attention_messages import Asked, IdleBody, Withdrawn
from onsembl.protocol.messages import Message, Offer


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """The messages to the server; a silence counts after a moment."""
    monkeypatch.setattr(shell, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(idle_watch, "BETWEEN_SECONDS", 0.0)
    monkeypatch.setattr(idle_watch, "SILENT_SECONDS", 0.05)
    return []


async def test_a_call_waits_until_somebody_types(context, shown, sent):
    """A notification, and then the silence of a program that reads, are each a request; a key withdraws it."""
    requests = Requests()
    requests.send = sent.append
    requests.messages_after_welcome(server_takes=True)
    text = r"""printf '\033]777;notify;Deploy;Which stage?\a'; read stage; echo "to $stage"; read ok"""
    run = ShellDriver().start(Offer(command_id=uuid4(), text=text), replace(context, requests=requests))
    await until(lambda: sent, "it calls")
    asked = sent[0]
    assert isinstance(asked, Asked)
    assert (asked.title, asked.body) == ("Deploy: Which stage?", IdleBody(text="Deploy: Which stage?"))
    assert not run.clock.stands_still and not run.give(asked.request_id, None, "ann"), "it has no answer"
    assert run.process.type(b"one\n") is None
    await shown.until(b"to one\r\n")
    await until(lambda: len(sent) > 1, "it goes on")
    assert isinstance(sent[1], Withdrawn) and sent[1].request_id == asked.request_id
    await until(lambda: len(sent) > 2, "it reads")
    assert isinstance(sent[2], Asked) and sent[2].body == IdleBody(text=idle_watch.SILENT, guess=True)
    run.withdraw_requests("The command is stopped.")
    assert isinstance(sent[3], Withdrawn)
    run.interrupt()
    await run.process.exited
    assert run.finish() is None
    await run.process.drain()
    run.process.close()
