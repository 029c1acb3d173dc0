"""The security headers of the page."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.no_worker


async def test_every_answer_carries_the_security_headers(api):
    """The page, the API and errors all carry the security headers."""
    for path in ("/", "/healthz", "/v1/me", "/nowhere"):
        headers = (await api.http.get(path)).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'", "no inline script, no eval, no other host"
        assert policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["base-uri"] == "'none'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert not re.search("unsafe-eval|[*]", headers["Content-Security-Policy"])
