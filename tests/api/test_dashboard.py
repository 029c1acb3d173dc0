"""The security headers of every answer, and the names under which the page is served."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from support.cases import cases
from support.server import running
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

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
        assert headers["Cache-Control"] == "no-store"
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


@cases(
    ("host", "status"),
    [
        ("localhost:8400", 200),
        ("page.localhost", 200),
        ("192.0.2.7:8400", 200),
        ("[2001:db8::1]:8400", 200),
        ("Fleet.Example.org.", 200),
        ("onsembl.example.org", 200),
        ("attacker.example.net", 421),
        ("localhost.example.net:8400", 421),
        ("192.0.2.7.example.net", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
async def test_the_page_and_the_metrics_are_served_under_known_names(known_names, host, status):
    """The page, its settings and the metrics are served under the public URL's name, localhost, an IP address or an
    allowed name; the API and the health checks under every name."""
    api = known_names
    for path in ("/", "/config.json", "/metrics"):
        answer = await api.http.get(path, headers={"Host": host})
        expected = 503 if path == "/" and status == 200 else status  # no page is built
        assert answer.status_code == expected, (path, host)
        assert answer.headers["Cache-Control"] == "no-store"
    assert (await api.http.get("/healthz", headers={"Host": host})).status_code == 200
    assert (await api.http.get("/v1/me", headers={"Host": host})).status_code == 401
    posted = await api.http.post("/v1/agents/token", headers={"Host": host, "Origin": f"http://{host}"})
    assert posted.status_code == (401 if status == 200 else 403)


@pytest.fixture
async def known_names(settings):
    """An instance with a public URL and one allowed name."""
    async with running(replace(settings, allowed_hosts=("Onsembl.example.org",))) as api:
        api.services.settings = replace(api.services.settings, public_url="https://fleet.example.org")
        yield api


async def test_a_refused_websocket_and_an_internal_error_are_not_stored(api, monkeypatch):
    """The answer to a refused WebSocket and to an unforeseen error carry the headers, too."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(api.url.replace("http", "ws") + "/v1/agent"):
            pass
    assert refused.value.response.headers["Cache-Control"] == "no-store"

    async def fail(*_: object) -> None:
        raise LookupError("unforeseen")

    monkeypatch.setattr(type(api.services), "authorize", fail)
    failed = await api.http.get("/v1/me", headers={"Authorization": "Bearer x"})
    assert (failed.status_code, failed.headers["Cache-Control"]) == (500, "no-store")
