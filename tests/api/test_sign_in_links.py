"""The server with a mail server: the page offers links, and each request is audited."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from support.mailbox import mailbox
from support.server import running

pytestmark = pytest.mark.no_worker


@pytest.mark.parametrize("path", ["otp", "recover"])
async def test_a_link_leads_to_the_page(settings, path, caplog):
    """A link that is asked for at this server leads back to its page, and signs the operator in there."""
    caplog.set_level("WARNING", "httpx")  # it logs addresses, which hold the tokens
    async with (
        mailbox() as box,
        running(replace(settings, auth=replace(settings.auth, mail_server=box.server))) as api,
    ):
        account = await api.operator()
        assert (await api.http.get("/config.json")).json()["sends_links"] is True
        headers = {"apikey": await api.key()}
        body = {"email": account.email}
        asked = await api.http.post(f"/auth/v1/{path}?redirect_to={api.url}/", json=body, headers=headers)
        assert asked.status_code == 200, asked.text
        link = await box.link()
        assert link.startswith(f"{api.url}/auth/v1/verify?")
        followed = await api.http.get(link, headers={"Sec-Fetch-Site": "cross-site"})
        address = httpx.URL(followed.headers["location"])
        assert address.copy_with(fragment=None) == f"{api.url}/"
        tokens = httpx.QueryParams(address.fragment)
        me = await api.http.get("/v1/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
        assert me.json()["email"] == account.email
        audit = (await api.http.get("/v1/audit", headers=account.headers)).json()["events"]
        assert {"operator.link_sent", "operator.sign_in"} <= {entry["action"] for entry in audit}


async def test_without_a_mail_server_no_link_is_offered(settings):
    """The page is told so, and a request is answered as by a project that has switched links off."""
    async with running(settings) as api:
        assert (await api.http.get("/config.json")).json()["sends_links"] is False
        headers = {"apikey": await api.key()}
        asked = await api.http.post("/auth/v1/otp", json={"email": "a@example.org"}, headers=headers)
        assert asked.status_code == 422 and asked.headers["x-sb-error-code"] == "otp_disabled"
