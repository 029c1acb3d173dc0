"""Checks of the way to the server: the agent's credentials, the server's answer, and the clock."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from onsembl.agent.doctor.findings import Finding, fault, ok
from onsembl.agent.enrolment import credentials as store
from onsembl.agent.errors import AgentError

ANSWER_SECONDS = 10.0
CLOCK_OFF_SECONDS = 30.0
"""From this difference on, an access token seems to be valid longer or shorter than it is."""


def check_credentials(name: str, folder: Path) -> tuple[Finding, store.Credentials | None]:
    """The finding about an agent's credentials, and the credentials if they can be read."""
    enrol = f"Enrol it with: onsembl agent login --name {name}"
    try:
        found = store.load(folder)
    except store.NotEnrolled as error:
        return fault("credentials", str(error), enrol), None
    except AgentError as error:
        return fault("credentials", str(error), f"Mend the file, or enrol the agent again: {enrol}"), None
    return ok("credentials", f"{found.name}, kind {found.kind}, at {found.server}"), found


def check_server(url: str) -> list[Finding]:
    """Whether the server answers, and this machine's clock agrees with its clock."""
    sent = time.time()
    try:
        response = httpx.get(f"{url}/healthz", timeout=ANSWER_SECONDS)
    except httpx.HTTPError as error:
        return [unreachable(url, error)]
    return [answer_finding(url, response.status_code), *clock_findings(response.headers.get("Date"), sent, time.time())]


def unreachable(url: str, error: httpx.HTTPError) -> Finding:
    """The finding about a server that does not answer: name, certificate, connection or silence."""
    host = httpx.URL(url).host
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                mend = "Check the name in the server's address, and this machine's DNS."
                return fault("server", f"The name {host} is not found.", mend)
            case ssl.SSLError():
                reason = getattr(cause, "verify_message", "") or str(cause)
                mend = "Check the server's certificate; for an authority of your own set SSL_CERT_FILE."
                return fault("server", f"{url} has no valid TLS: {reason}.", mend)
            case ConnectionRefusedError():
                mend = "Start the control center, or correct its address and port."
                return fault("server", f"{url} refuses the connection.", mend)
            case _:
                pass
    if isinstance(error, httpx.TimeoutException):
        mend = "Check the network, and the firewalls on the way."
        return fault("server", f"{url} does not answer within {ANSWER_SECONDS:.0f} s.", mend)
    return fault("server", f"{url} cannot be reached: {error}", "Check the network, a proxy, and the server's address.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those that led to it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def answer_finding(url: str, status: int) -> Finding:
    """The finding about a server that answers its health check with this status."""
    if status == 200:
        return ok("server", f"{url} answers.")
    mend = "Check that the address is that of the control center, and the proxy in front of it."
    return fault("server", f"{url} answers its health check with {status}.", mend)


def clock_findings(date: str | None, sent: float, received: float) -> list[Finding]:
    """The finding about the clock: the server's `Date` header came between two Unix times here; none without it."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return []
    off = sent - theirs - 1 if sent > theirs + 1 else min(received - theirs, 0.0)  # the header has whole seconds
    if abs(off) <= CLOCK_OFF_SECONDS:
        return [ok("clock", "The clock agrees with the server's.")]
    direction = "ahead of" if off > 0 else "behind"
    text = f"The clock is {abs(off):,.0f} s {direction} the server's."
    return [fault("clock", text, "Set the clock of the machine that is wrong (systemd: timedatectl set-ntp true).")]
