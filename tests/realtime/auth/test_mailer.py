"""The sending of e-mail: tried again while the mail server may still take a message."""

from __future__ import annotations

import logging
from email.message import EmailMessage

import pytest
from support.cases import cases
from support.mailbox import mailbox

from onsembl.realtime.auth.mail_server import BadMailServer, MailServer
from onsembl.realtime.auth.mailer import MAX_WAITING, Mailer


async def compose() -> EmailMessage:
    message = EmailMessage()
    message["To"] = "ann@example.org"
    message.set_content("secret-link")
    return message


async def test_a_busy_server_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    """A message that is refused for now is sent again; one that is refused for good is not. The log has no text."""
    async with mailbox() as box:
        mailer = Mailer(box.server, (0.0, 0.0))
        box.answers = ["451 later", "452 later"]
        mailer.start(compose)
        assert (await box.message())["From"] == "Onsembl <onsembl@example.org>"
        assert box.asked == 3
        for answers, asked in ((["550 no"], 4), (["451 later"] * 3, 7)):
            box.answers = answers
            await mailer.start(compose)
            assert box.asked == asked and box.is_empty
        failed = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(failed) == 2 and "secret-link" not in caplog.text


async def test_a_server_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """Messages wait a few times for the server; no more than a number of them wait, and `stop` ends them."""
    async with mailbox() as box:
        server = box.server
    mailer = Mailer(server, (0.0,))
    await mailer.start(compose)
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]
    patient = Mailer(server, (3600.0,))
    while not patient.is_full:
        patient.start(compose)
    assert patient.waiting == MAX_WAITING
    await patient.stop()
    assert patient.waiting == 0


async def test_another_machine_must_encrypt() -> None:
    """Without STARTTLS, a password goes to no server but one on this machine."""
    server = MailServer.from_url("smtp://user:pw@mail.example.org", "a@example.org")
    assert server.port == 587 and server.needs_starttls
    assert not MailServer.from_url("smtps://mail.example.org", "a@example.org").needs_starttls
    assert not MailServer.from_url("smtp://localhost:25", "a@example.org").needs_starttls


@cases(
    ("url", "sender"),
    [
        ("http://host", "a@example.org"),
        ("smtp://", "a@example.org"),
        ("smtp://user:pa/ss@host", "a@example.org"),
        ("smtp://host:port", "a@example.org"),
        ("smtp://host/path", "a@example.org"),
        ("smtp://host", "nobody"),
        ("smtp://host", "a@example.org\r\nBcc: b@example.org"),
    ],
)
async def test_a_wrong_setting(url: str, sender: str) -> None:
    """It is rejected, and the text does not contain the password."""
    with pytest.raises(BadMailServer) as raised:
        MailServer.from_url(url, sender)
    assert "pa/ss" not in str(raised.value)
