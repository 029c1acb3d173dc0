"""Sends e-mail in the background, and tries again while the mail server does not answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr

import aiosmtplib

from onsembl.realtime.auth.mail_server import MailServer
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import DATABASE_ERRORS

logger = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 5.0, 25.0)
"""The delays before a message is tried again."""
TIMEOUT_SECONDS = 20.0
MAX_WAITING = 100
CONNECTIONS = 4
Send = Callable[[EmailMessage], Awaitable[object]]


class Mailer:
    """Sends messages. Its tasks end with `stop`; messages that wait then are lost."""

    def __init__(self, server: MailServer, retry_seconds: tuple[float, ...] = RETRY_SECONDS) -> None:
        self._server = server
        self._retry_seconds = retry_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = asyncio.Semaphore(CONNECTIONS)

    @property
    def waiting(self) -> int:
        """How many messages are not yet sent."""
        return len(self._tasks)

    @property
    def is_full(self) -> bool:
        """Whether so many messages wait that no other is accepted."""
        return self.waiting >= MAX_WAITING

    def start(self, compose: Callable[[], Awaitable[EmailMessage | None]]) -> asyncio.Task[None]:
        """Compose a message and send it, in the background; nothing is sent for None. The task ends when it is sent or
        given up."""
        task = asyncio.create_task(self._run(compose), name="a message by e-mail")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """End the tasks."""
        await cancel_until_done(list(self._tasks))

    async def _run(self, compose: Callable[[], Awaitable[EmailMessage | None]]) -> None:
        try:
            message = await compose()
            if message is not None:
                await self._deliver(message)
        except (*DATABASE_ERRORS, aiosmtplib.SMTPException) as error:
            # The answer was given before. The log has no text of the message: it contains a secret.
            logger.error("An e-mail was not sent: %s", error, extra={"action": "mail_failed"})  # noqa: TRY400

    async def _deliver(self, message: EmailMessage) -> None:
        message["From"] = self._server.sender
        message["Date"] = formatdate(usegmt=True)
        message["Message-ID"] = make_msgid(domain=parseaddr(self._server.sender)[1].rpartition("@")[2])
        for delay in (*self._retry_seconds, None):
            try:
                async with self._connections:
                    await self._send(message)
            except aiosmtplib.SMTPException as error:
                if delay is None or _is_final(error):
                    raise
                logger.warning("The mail server did not take an e-mail: %s", error, extra={"action": "mail_retried"})
                await asyncio.sleep(delay)
            else:
                return

    async def _send(self, message: EmailMessage) -> None:
        server = self._server
        await aiosmtplib.send(
            message,
            hostname=server.host,
            port=server.port,
            use_tls=server.tls,
            start_tls=server.needs_starttls,
            username=server.user,
            password=server.password,
            timeout=TIMEOUT_SECONDS,
        )


def _is_final(error: aiosmtplib.SMTPException) -> bool:
    """Whether the server has rejected the message or the sign-in for good (RFC 5321, 4.2.1)."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(_is_final(refused) for refused in error.recipients)
    return isinstance(error, aiosmtplib.SMTPResponseException) and error.code >= 500
