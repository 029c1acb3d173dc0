"""What an agent makes of an answer to its refresh token: only the server's own refusal ends anything."""

from __future__ import annotations

import pytest
from support.answering import answering
from support.untrusted import untrusted_tls

from onsembl.agent.enrolment.enrol import CredentialsRejected, ServerUnreachable, log_out, refresh


@pytest.mark.parametrize(
    "status", ["301 Moved", "308 Moved", "401 Unauthorized", "403 Forbidden", "404 Not Found", "502 Bad", "200 OK"]
)
@pytest.mark.parametrize("act", [log_out, refresh])
async def test_what_stands_in_between_does_not_speak_for_the_server(act, status):
    """A proxy's redirect, its refusal or its page: the credentials may be good still."""
    async with answering(status, "<html>Please sign in.</html>") as credentials:
        with pytest.raises(ServerUnreachable):
            await act(credentials)


@pytest.mark.parametrize("act", [log_out, refresh])
async def test_the_servers_own_refusal_is_taken(act):
    """401: they are good for nothing any more."""
    problem = '{"status": 401, "detail": "The refresh token is unknown."}'
    async with answering("401 Unauthorized", problem, "application/problem+json") as credentials:
        with pytest.raises(CredentialsRejected, match="is unknown"):
            await act(credentials)


@pytest.mark.parametrize("act", [log_out, refresh])
async def test_a_certificate_that_nobody_trusts_is_refused(act, tmp_path):
    """Its server gets no token."""
    async with answering("200 OK", "{}", "application/json", untrusted_tls(tmp_path)) as credentials:
        with pytest.raises(ServerUnreachable, match="certificate"):
            await act(credentials)
