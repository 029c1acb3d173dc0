"""The REST API, as an operator's commands use it, and the session that `onsembl login` keeps.

`ONSEMBL_SERVER` and `ONSEMBL_TOKEN` (an access token) stand in for a session, for scripts.
A session outlives its access token, which is renewed before a request that it would not be good for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import httpx
import msgspec
import platformdirs

from onsembl.agent.link.durable import replace_file
from onsembl.cli.errors import StartError

TIMEOUT_SECONDS = 30.0
MAKE_AGAIN_SECONDS = (0.5, 2.0)
FRESH_SECONDS = 60.0
"""An access token that ends sooner is renewed first."""


AGAIN_SECONDS = 0.5
PATIENCE_SECONDS = 120.0
"""How long who waits for something asks a server that does not answer: while it starts anew, for one."""


class NoAnswer(StartError):
    """The server could not be reached, or could not say yes or no just now."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Who is signed in where. `expires_at` is Unix time."""

    server: str
    auth_url: str
    key: str
    access_token: str
    refresh_token: str
    expires_at: float


server_option = click.option(
    "--server", envvar="ONSEMBL_SERVER", show_envvar=True, help="The control center's address; as signed in."
)


def session_path() -> Path:
    """Where the session is kept, for its owner only."""
    return platformdirs.user_state_path("onsembl") / "session.json"


def stored_session() -> Session | None:
    """The session of `onsembl login`. Raises StartError when it is damaged."""
    try:
        return msgspec.json.decode(session_path().read_bytes(), type=Session)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StartError(f"{session_path()} cannot be used ({error}). Sign in again: onsembl login") from error


def sign_in(server: str, email: str, password: str) -> Session:
    """Sign in, and keep the session. Raises StartError."""
    config = _answer(lambda: httpx.get(f"{server}/config.json", timeout=TIMEOUT_SECONDS))
    auth_url = config["supabase_url"] or server
    return _session(server, auth_url, config["supabase_key"], "password", {"email": email, "password": password})


def _session(server: str, auth_url: str, key: str, grant: str, body: dict[str, str]) -> Session:
    answer = _answer(
        lambda: httpx.post(
            f"{auth_url}/auth/v1/token",
            params={"grant_type": grant},
            json=body,
            headers={"apikey": key},
            timeout=TIMEOUT_SECONDS,
        )
    )
    session = Session(
        server=server,
        auth_url=auth_url,
        key=key,
        access_token=answer["access_token"],
        refresh_token=answer["refresh_token"],
        expires_at=time.time() + answer["expires_in"],
    )
    session_path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(session_path(), [msgspec.json.encode(session)])
    return session


def signed_in(server: str | None) -> bool:
    """Whether there is a session, or a token in the environment."""
    return bool(os.environ.get("ONSEMBL_TOKEN")) or server is not None or stored_session() is not None


class OperatorClient:
    """Asks as the operator who is signed in. Raises StartError with the server's own words."""

    def __init__(self, server: str | None) -> None:
        self._session = stored_session()
        self._token = os.environ.get("ONSEMBL_TOKEN")
        if self._token is None and (
            self._session is None or (server is not None and server.rstrip("/") != self._session.server)
        ):
            raise StartError("Sign in first: onsembl login --server https://…")
        base = server or (self._session.server if self._session is not None else None)
        if base is None:
            raise StartError("Which control center? Give --server or set ONSEMBL_SERVER.")
        self._http = httpx.Client(base_url=base, auth=self._authorized, timeout=TIMEOUT_SECONDS)

    def _authorized(self, request: httpx.Request) -> httpx.Request:
        request.headers["Authorization"] = f"Bearer {self._token or self._fresh_token()}"
        return request

    def _fresh_token(self) -> str:
        """The session's access token, renewed if it ends soon."""
        assert self._session is not None
        if _ends_soon(self._session):
            # Another program of this user may have renewed it; its refresh token is good for one of them.
            session = stored_session() or self._session
            if _ends_soon(session):
                body = {"refresh_token": session.refresh_token}
                session = _session(session.server, session.auth_url, session.key, "refresh_token", body)
            self._session = session
        return self._session.access_token

    def __enter__(self) -> OperatorClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def make(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to a POST that makes something: sent again when none comes, under a key that makes it once."""
        post = partial(self._http.post, path, json=dict(body), headers={"Idempotency-Key": str(uuid4())})

        def request() -> httpx.Response:
            for pause in MAKE_AGAIN_SECONDS:
                with suppress(httpx.TransportError):
                    return post()
                time.sleep(pause)
            return post()

        return _answer(request)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer of the REST API."""
        return _answer(lambda: self._http.request(method, path, json=body))

    def poll(self, path: str) -> Any:
        """The answer to a GET of one who waits for something: a server that gives none is asked again for
        `PATIENCE_SECONDS`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.ask("GET", path)
            except NoAnswer:
                if time.monotonic() > deadline:
                    raise
                time.sleep(AGAIN_SECONDS)

    def fetch(self, path: str, params: Mapping[str, str], take: Callable[[bytes], object]) -> httpx.Headers:
        """Hand a file that the API makes to `take`, as it comes; the answer's headers."""
        try:
            with self._http.stream("GET", path, params=params) as response:
                if not response.is_success:
                    response.read()
                    _answer(lambda: response)
                for chunk in response.iter_bytes():
                    take(chunk)
                return response.headers
        except httpx.HTTPError as error:
            raise StartError(f"The connection broke: {error or type(error).__name__}") from error

    def agent_id(self, name: str) -> str:
        """The agent of this name, or id."""
        agents = self.ask("GET", "/v1/agents")["agents"]
        found = next((agent["id"] for agent in agents if name in (agent["name"], agent["id"])), None)
        if found is None:
            raise StartError(f"There is no agent {name}.")
        return found


def _ends_soon(session: Session) -> bool:
    return session.expires_at - time.time() < FRESH_SECONDS


def _answer(request: Callable[[], httpx.Response]) -> Any:
    try:
        response = request()
    except httpx.HTTPError as error:
        raise NoAnswer(f"The server cannot be reached: {error or type(error).__name__}") from error
    passing = response.status_code == 429 or response.is_server_error
    refusal = NoAnswer if passing else StartError
    try:
        body = response.json()
    except ValueError as error:
        raise refusal(f"The server answered {response.status_code}, and not as this program expects.") from error
    if response.is_success:
        return body
    said = body.get("detail") or body.get("msg") or body.get("error_description") or response.reason_phrase
    raise refusal(str(said))
