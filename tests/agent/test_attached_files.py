"""The files of a prompt on the agent's machine: which answer to a request for one is final, and a stop meanwhile."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from agent.test_guarded import Bench
from support.answering import answering

from onsembl.agent.drivers.attached_files import AttachedFiles, AttachmentError
from onsembl.agent.enrolment.enrol import ServerUnreachable
from onsembl.agent.link import connection as connection_module
from onsembl.agent.link.attachments import fetch_attachment
from onsembl.agent.link.connection import AgentConnection
from onsembl.protocol.attachments import Attachment
from onsembl.protocol.limits import CommandLimits
from onsembl.protocol.messages import Offer
from onsembl.protocol.turn_messages import TurnSettings

FILE = Attachment(id=uuid4(), name="a.txt", media_type="application/octet-stream", size=3, sha256="0" * 64)
OCTETS, PROBLEM = "application/octet-stream", "application/problem+json"


@pytest.mark.parametrize(
    ("status", "body", "kind", "error"),
    [
        ("200 OK", "<html>", "text/html", ServerUnreachable),
        ("302 Found", "", "text/html", ServerUnreachable),
        ("401 Unauthorized", '{"status": 401, "detail": "expired"}', PROBLEM, ServerUnreachable),
        ("404 Not Found", "<html>", "text/html", ServerUnreachable),
        ("404 Not Found", '{"status": 404, "detail": "gone"}', PROBLEM, AttachmentError),
        ("503 Busy", '{"status": 503, "detail": "later"}', PROBLEM, ServerUnreachable),
        ("200 OK", "xxxx", OCTETS, AttachmentError),
    ],
)
async def test_only_the_servers_own_answer_is_final(status, body, kind, error):
    """What stands in between, an expired token and a busy server may pass; a missing file and a longer one do not."""
    async with answering(status, body, kind) as credentials:
        with pytest.raises(error):
            await fetch_attachment(credentials.server, credentials.access_token, FILE)


async def test_a_fetch_is_repeated_until_the_server_answers(monkeypatch, tmp_path):
    """With the token that the connection has then."""
    answers: list[object] = [ServerUnreachable("busy"), ServerUnreachable("expired"), b"abc"]

    async def fetch(_server: str, _token: str, _attachment: Attachment) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, bytes)
        return answer

    monkeypatch.setattr(connection_module, "fetch_attachment", fetch)
    monkeypatch.setattr(connection_module.Backoff, "next_delay", lambda _: 0.0)
    async with answering("200 OK", "") as credentials:

        class Session:
            pass

        assert await AgentConnection(tmp_path, credentials, Session()).fetch(FILE) == b"abc"
    assert not answers


@pytest.mark.parametrize("answers", [True, False], ids=["busy", "silent"])
async def test_a_fetch_without_a_final_answer_ends(monkeypatch, tmp_path, answers):
    """After its time; the error has the last answer."""

    async def fetch(_server: str, _token: str, _attachment: Attachment) -> bytes:
        if answers:
            raise ServerUnreachable("It is busy.")
        return await asyncio.Future()

    monkeypatch.setattr(connection_module, "fetch_attachment", fetch)
    monkeypatch.setattr(connection_module, "FETCH_SECONDS", 0.05)
    async with answering("200 OK", "") as credentials:

        class Session:
            pass

        async with asyncio.timeout(30):
            with pytest.raises(AttachmentError, match="It is busy" if answers else "has not sent all of it"):
                await AgentConnection(tmp_path, credentials, Session()).fetch(FILE)


@pytest.mark.parametrize(
    ("limits", "asked_by", "outcome", "limit"),
    [
        ({}, "operator", "cancelled", None),
        ({}, "server", "timed_out", "wall_seconds"),
        ({"work_seconds": 0.05}, None, "timed_out", "wall_seconds"),
        ({"work_seconds": 3600, "idle_seconds": 0.05}, None, "timed_out", "idle_seconds"),
    ],
)
async def test_a_command_is_stopped_while_its_files_are_fetched(tmp_path, context, limits, asked_by, outcome, limit):
    """By a request or a limit. It ends without running, and leaves no file."""
    bench = Bench(tmp_path, context)
    asked = asyncio.Event()

    async def never(_attachment: Attachment) -> bytes:
        asked.set()
        return await asyncio.Future()

    bench.runner._files = AttachedFiles(tmp_path / "attachments", never)
    command_id = uuid4()
    turn = TurnSettings(conversation=str(uuid4()), attachments=[FILE])
    bench.runner.offer(Offer(command_id=command_id, text="touch ran", turn=turn, limits=CommandLimits(**limits)))
    await asked.wait()
    if asked_by is not None:
        bench.runner.cancel(command_id, limit if asked_by == "server" else None)
    async with asyncio.timeout(30):
        end = await bench.ended(command_id)
    assert (end.outcome, end.limit) == (outcome, limit)
    assert not list((tmp_path / "attachments").glob("*"))
    assert not bench.driver.reached
    await bench.runner.shut_down()
    bench.journal.close()
