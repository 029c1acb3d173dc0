"""A real mail server for a test, whose messages the test reads."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from onsembl.realtime.auth.mail_server import MailServer

USER, PASSWORD = "onsembl", "mail:pass/word"
LINK = re.compile(r"^https?://\S+", re.MULTILINE)


@dataclass
class Mailbox:
    """What the server has received. It answers the next messages with `answers`, and then accepts each."""

    server: MailServer
    answers: list[str] = field(default_factory=list)
    asked: int = 0
    _messages: asyncio.Queue[EmailMessage] = field(default_factory=asyncio.Queue)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Called by the server for each message."""
        self.asked += 1
        if self.answers:
            return self.answers.pop(0)
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        assert envelope.rcpt_tos == [message["To"]]
        self._messages.put_nowait(message)
        return "250 OK"

    async def message(self) -> EmailMessage:
        """The next message."""
        async with asyncio.timeout(60):
            return await self._messages.get()

    async def link(self) -> str:
        """The link in the next message."""
        found = LINK.search((await self.message()).get_content())
        assert found is not None
        return found[0]

    @property
    def is_empty(self) -> bool:
        """Whether every message was read."""
        return self._messages.empty()


@asynccontextmanager
async def mailbox() -> AsyncGenerator[Mailbox]:
    """Serve on a free port; clients must sign in."""

    def authenticate(
        _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object
    ) -> AuthResult:
        expected = LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=data == expected, handled=False)

    box: Mailbox

    def protocol() -> SMTP:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # it advises against AUTH without TLS
            return SMTP(
                box, authenticator=authenticate, auth_required=True, auth_require_tls=False, enable_SMTPUTF8=True
            )

    listening = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    url = f"smtp://{USER}:{PASSWORD.replace(':', '%3A').replace('/', '%2F')}@127.0.0.1:{port}"
    box = Mailbox(MailServer.from_url(url, "Onsembl <onsembl@example.org>"))
    try:
        yield box
    finally:
        listening.close()
        await listening.wait_closed()
