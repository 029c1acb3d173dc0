"""Links by e-mail, to sign in and to set a new password, through a real mail server."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from support.mailbox import Mailbox, mailbox

from onsembl.realtime.auth.settings import AuthSettings

from .conftest import EMAIL, PASSWORD, bearer, code

if TYPE_CHECKING:
    from .conftest import Auth

VERIFIER = "v" * 64
CHALLENGE = {
    "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("="),
    "code_challenge_method": "s256",
}
PAGE = "http://project.test/page"


@pytest.fixture
async def box() -> AsyncGenerator[Mailbox]:
    async with mailbox() as box:
        yield box


@pytest.fixture(autouse=True)
def quiet_client(caplog: pytest.LogCaptureFixture) -> None:
    """Do not log the addresses that the test requests: they hold the tokens of links."""
    caplog.set_level(logging.WARNING, "httpx")


@pytest.fixture
def auth_settings(box: Mailbox) -> AuthSettings:
    return AuthSettings(key_publish_seconds=0.0, mail_server=box.server)


async def ask(auth: Auth, path: str = "/otp", email: str = EMAIL, page: str = PAGE, **body: str) -> httpx.Response:
    return await auth.http.post(path, params={"redirect_to": page}, json={"email": email, **body})


async def follow(auth: Auth, link: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """The address to which the link leads, without its query and fragment, and these."""
    answer = await auth.http.get(link.replace("/auth/v1", ""), headers={"apikey": ""})
    assert answer.status_code == 303
    parts = urlsplit(answer.headers["location"])
    query, fragment = ({name: of[0] for name, of in parse_qs(text).items()} for text in (parts.query, parts.fragment))
    return parts._replace(query="", fragment="").geturl(), query, fragment


async def exchange(auth: Auth, auth_code: str, verifier: str = VERIFIER) -> httpx.Response:
    return await auth.http.post("/token?grant_type=pkce", json={"auth_code": auth_code, "code_verifier": verifier})


async def test_a_link_signs_in_once(auth: Auth, box: Mailbox) -> None:
    """The link leads to the page with the tokens of a session; a second time it leads there with an error."""
    await auth.create()
    assert (await ask(auth, page=f"{PAGE}?flow=1#there")).json() == {}
    link = await box.link()
    assert link.startswith("http://project.test/auth/v1/verify?")
    page, query, tokens = await follow(auth, link)
    assert (page, query) == (PAGE, {"flow": "1"}) and tokens["type"] == "magiclink"
    assert (await auth.user(tokens["access_token"])).json()["email"] == EMAIL
    again = await auth.refresh(tokens["refresh_token"])
    claims = jwt.decode(again.json()["access_token"], options={"verify_signature": False})
    assert claims["amr"][0]["method"] == "otp"
    assert [(event.action, event.reason) for event in auth.events] == [
        ("link_sent", "magiclink"),
        ("sign_in", "link by e-mail"),
        ("refresh", ""),
    ]
    _, query, fragment = await follow(auth, link)
    assert query == {"flow": "1", **fragment} and fragment["error_code"] == "otp_expired"


async def test_a_code_needs_its_verifier(auth: Auth, box: Mailbox) -> None:
    """With a challenge, only the verifier's holder gets a session, also after a mail scanner has followed the link."""
    await auth.create()
    await ask(auth, **CHALLENGE)
    link = await box.link()
    assert (await auth.http.head(link.replace("/auth/v1", ""))).status_code == 200
    _, scanned, _ = await follow(auth, link)
    _, query, fragment = await follow(auth, link)
    assert fragment == {} and set(query) == {"code"}
    assert code(await exchange(auth, query["code"], "w" * 64)) == (400, "bad_code_verifier")
    assert code(await exchange(auth, "x", VERIFIER)) == (404, "flow_state_not_found")
    session = await exchange(auth, query["code"])
    assert session.json()["user"]["email"] == EMAIL
    for used in (query["code"], scanned["code"]):
        assert code(await exchange(auth, used)) == (404, "flow_state_not_found")
    assert (await follow(auth, link))[1]["error_code"] == "otp_expired"


async def test_a_new_password(auth: Auth, box: Mailbox) -> None:
    """A link of the other kind leads to a session that sets a new password, which ends the other sessions."""
    await auth.create()
    before = await auth.session()
    await ask(auth, "/recover")
    _, _, tokens = await follow(auth, await box.link())
    assert tokens["type"] == "recovery"
    changed = await auth.http.put("/user", json={"password": "another one"}, headers=bearer(tokens["access_token"]))
    assert changed.status_code == 200
    assert code(await auth.sign_in()) == (400, "invalid_credentials")
    assert (await auth.sign_in(password="another one")).status_code == 200
    assert code(await auth.user(before["access_token"])) == (403, "session_not_found")


async def test_nobody_learns_which_addresses_are_known(auth: Auth, box: Mailbox) -> None:
    """Known, unknown and disabled accounts get the same answers, limited alike; only the first gets a message."""
    await auth.create()
    disabled = await auth.create("off@example.org", ban_duration="1h")
    assert disabled["banned_until"]
    addresses = ("none@example.org", "off@example.org", EMAIL)
    answers: list[list[int]] = []
    for number, email in enumerate(addresses):  # a client is limited as an account is, so each is another one
        auth.http._transport = httpx.ASGITransport(auth.app, client=(f"192.0.2.{number}", 1000))
        answers.append([(await ask(auth, email=email)).status_code for _ in range(4)])
    assert answers == [[200, 200, 200, 429]] * 3
    refused = await ask(auth, email=EMAIL)
    assert code(refused) == (429, "over_email_send_rate_limit") and int(refused.headers["retry-after"]) > 0
    for _ in range(3):
        assert (await box.message())["To"] == EMAIL
    assert box.is_empty


async def test_only_the_newest_link_counts(auth: Auth, box: Mailbox) -> None:
    """A new link replaces the one before; a change of the password, and time, end the last one."""
    user = await auth.create()
    await ask(auth)
    first = await box.link()
    await ask(auth)
    second = await box.link()
    assert (await follow(auth, first))[1]["error_code"] == "otp_expired"
    body = {"password": "another one"}
    await auth.http.put(f"/admin/users/{user['id']}", json=body, headers=auth.admin)
    assert (await follow(auth, second))[1]["error_code"] == "otp_expired"
    await ask(auth)
    third = await box.link()
    await auth.execute("update auth.one_time_tokens set expires_at = now()")
    assert (await follow(auth, third))[1]["error_code"] == "otp_expired"


@pytest.mark.parametrize(
    "page", ["https://evil.example/", "http://project.test.evil.example/x", "//evil", "http://[", ""]
)
async def test_a_link_leads_only_to_our_own_page(auth: Auth, box: Mailbox, page: str) -> None:
    """Tokens go to the origin of Auth, whichever page the request names, and whichever the link names later."""
    await auth.create()
    await ask(auth, page=page)
    link = await box.link()
    at, _, tokens = await follow(auth, f"{link}&redirect_to=https://evil.example/")
    assert at == "http://project.test" and "access_token" in tokens


async def test_the_token_of_a_link(auth: Auth, box: Mailbox) -> None:
    """A page that has the token itself exchanges it for a session, and an account that was disabled since gets none."""
    user = await auth.create()
    for _ in range(2):
        await ask(auth)
    await box.link()
    token = parse_qs(urlsplit(await box.link()).query)["token"][0]
    wrong = await auth.http.post("/verify", json={"type": "recovery", "token_hash": token})
    assert code(wrong) == (403, "otp_expired")
    session = await auth.http.post("/verify", json={"type": "email", "token_hash": token})
    assert session.json()["user"]["id"] == user["id"]
    await ask(auth)
    token = parse_qs(urlsplit(await box.link()).query)["token"][0]
    await auth.http.put(f"/admin/users/{user['id']}", json={"ban_duration": "1h"}, headers=auth.admin)
    refused = await auth.http.post("/verify", json={"type": "magiclink", "token_hash": token})
    assert code(refused) == (403, "user_banned")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"email": "no address"}, (400, "validation_failed")),
        ({"phone": "123"}, (422, "phone_provider_disabled")),
        ({"code_challenge": "x" * 43}, (400, "validation_failed")),
        ({"code_challenge": "x", "code_challenge_method": "s256"}, (400, "validation_failed")),
        ({"code_challenge": "x" * 43, "code_challenge_method": "md5"}, (400, "validation_failed")),
    ],
)
async def test_a_request_that_is_not_valid(auth: Auth, body: dict[str, str], expected: tuple[int, str]) -> None:
    """It is rejected with the code of the real service."""
    for path in ("/otp", "/magiclink", "/recover"):
        assert code(await ask(auth, path, **{"email": EMAIL, **body})) == expected


async def test_a_sign_in_by_link_confirms_the_address(auth: Auth, box: Mailbox) -> None:
    """Who opens a link has the mailbox: the password works from then on."""
    await auth.create(email_confirm=False)
    assert code(await auth.sign_in()) == (400, "email_not_confirmed")
    await ask(auth)
    await follow(auth, await box.link())
    assert (await auth.sign_in(password=PASSWORD)).status_code == 200
