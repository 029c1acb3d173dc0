"""The settings of the server that sends e-mail."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.utils import parseaddr
from urllib.parse import unquote, urlsplit

PORTS = {"smtp": 587, "smtps": 465}
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
FORM = "smtps://USER:PASSWORD@HOST, or smtp://… for STARTTLS"


class BadMailServer(ValueError):
    """A setting is wrong; the text says which."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """A server that sends e-mail from the address `sender`.

    With `tls`, the connection is encrypted from the start. Otherwise it becomes so by STARTTLS, except on this machine.
    """

    host: str
    port: int
    tls: bool
    sender: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str, sender: str) -> MailServer:
        """The server at `smtp://…` or `smtps://…`. Raises BadMailServer, whose text does not contain the password."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise BadMailServer(f"the URL is not of the form {FORM}") from error
        if parts.scheme not in PORTS or not host or parts.path.strip("/") or parts.query or parts.fragment:
            raise BadMailServer(f"the URL is not of the form {FORM}")
        if not re.fullmatch(r"[^\s@]+@[^\s@]+", parseaddr(sender)[1]) or re.search(r"[\r\n]", sender):
            raise BadMailServer(f"the sender {sender!r} is not an e-mail address")
        return cls(
            host=host,
            port=port or PORTS[parts.scheme],
            tls=parts.scheme == "smtps",
            sender=sender,
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )

    @property
    def needs_starttls(self) -> bool:
        """Whether the connection must be encrypted by STARTTLS before anything is sent."""
        return not self.tls and self.host not in LOCAL_HOSTS
