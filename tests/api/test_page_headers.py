"""The security headers of the page."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from onsembl.api.http.dashboard import page_routes

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


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip", "gzip"),
        ("br;q=0, gzip;q=0.5", "gzip"),
        ("identity", None),
        ("", None),
    ],
)
async def test_files_are_sent_as_the_build_compressed_them(tmp_path: Path, accepted: str, encoding: str | None):
    """A browser gets the smallest form that it takes, with the type of the file itself."""
    (tmp_path / "assets").mkdir()
    for name in ("index.html", "assets/page.js"):
        for suffix in ("", ".br", ".gz"):
            (tmp_path / f"{name}{suffix}").write_text(f"{name}{suffix}")
    (tmp_path / "assets" / "plain.js").write_text("plain")
    app = Starlette(routes=page_routes(tmp_path))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:

        async def read(path: str) -> tuple[httpx.Response, bytes]:
            async with http.stream("GET", path, headers={"Accept-Encoding": accepted}) as answer:
                return answer, b"".join([chunk async for chunk in answer.aiter_raw()])

        for path, name, kind in (("/", "index.html", "text/html"), ("/assets/page.js", "assets/page.js", "javascript")):
            answer, content = await read(path)
            suffix = {"br": ".br", "gzip": ".gz", None: ""}[encoding]
            assert (content.decode(), answer.headers.get("Content-Encoding")) == (name + suffix, encoding)
            assert answer.headers["Vary"] == "Accept-Encoding" and kind in answer.headers["Content-Type"]
        answer, content = await read("/assets/plain.js")
        assert (content, "Content-Encoding" in answer.headers) == (b"plain", False)
        assert (await read("/assets/none.js"))[0].status_code == 404
