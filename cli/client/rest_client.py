"""The REST client of the operator's commands, and the session that `onsembl login` stores.

Scripts can set `ONSEMBL_SERVER` and `ONSEMBL_TOKEN` (an access token) instead of a session.
A session outlives its access token: the client renews the token before it expires.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import msgspec
import platformdirs

from onsembl.agent.link.durable import replace_file
from onsembl.cli.errors import CliError
from onsembl.cli.hints import command_line
from onsembl.cli.insecure import require_encryption

TIMEOUT_SECONDS = 30.0
UPLOAD_SECONDS = 120.0
CREATE_RETRY_SECONDS = (0.5, 2.0)
RENEW_BEFORE_SECONDS = 60.0
"""An access token that expires sooner is renewed before the request."""
POLL_RETRY_SECONDS = 0.5
POLL_PATIENCE_SECONDS = 120.0
"""How long `poll` retries while the server is unavailable, for example during a restart."""
PAGE_SIZE = 200


class ServerUnavailable(CliError):
    """The server could not be reached, is overloaded or had an internal error."""


class Unauthenticated(CliError):
    """The server did not accept the access token."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's session at one server. `expires_at`, of the access token, is in Unix time."""

    server: str
    auth_url: str
    key: str
    access_token: str
    refresh_token: str
    expires_at: float


def session_path() -> Path:
    """The file of the session, readable by its owner only."""
    return platformdirs.user_state_path("onsembl") / "session.json"


def stored_session() -> Session | None:
    """The session of `onsembl login`, if any. Raises CliError when the file is damaged."""
    try:
        return msgspec.json.decode(session_path().read_bytes(), type=Session)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        sign_in = command_line("login", "--server", "https://…")
        raise CliError(f"{session_path()} cannot be read ({error}). Sign in again: {sign_in}") from error


def sign_in(server: str, email: str, password: str, ask_code: Callable[[], str]) -> Session:
    """Sign in and store the session. `ask_code` is called for the code of the account's authenticator app, if it has
    one. Raises CliError."""
    require_encryption(server)
    config = _result(lambda: httpx.get(f"{server}/config.json", timeout=TIMEOUT_SECONDS), server)
    auth_url = config["supabase_url"] or server
    key = config["supabase_key"]
    tokens = _tokens(auth_url, key, "password", {"email": email, "password": password})
    user: dict[str, Any] = tokens.get("user") or {}
    factors: list[dict[str, Any]] = user.get("factors") or []
    verified = [factor for factor in factors if factor["status"] == "verified"]
    if verified:
        tokens = _with_second_factor(auth_url, key, tokens["access_token"], verified, ask_code)
    return _store(server, auth_url, key, tokens)


def _with_second_factor(
    auth_url: str, key: str, token: str, factors: list[dict[str, Any]], ask_code: Callable[[], str]
) -> dict[str, Any]:
    """The tokens of the session after the code of the account's authenticator app. Raises CliError."""
    apps = [factor["id"] for factor in factors if factor["factor_type"] == "totp"]
    if not apps:
        kinds = ", ".join(sorted({factor["factor_type"] for factor in factors}))
        raise CliError(f"This account's second factor ({kinds}) works only in a browser; authenticator apps work here.")
    code = ask_code().replace(" ", "")
    path = f"factors/{apps[0]}"
    challenge = _post_to_auth(auth_url, key, f"{path}/challenge", {}, token)
    return _post_to_auth(auth_url, key, f"{path}/verify", {"challenge_id": challenge["id"], "code": code}, token)


def _tokens(auth_url: str, key: str, grant: str, body: dict[str, str]) -> dict[str, Any]:
    return _post_to_auth(auth_url, key, f"token?grant_type={grant}", body)


def _post_to_auth(auth_url: str, key: str, path: str, body: dict[str, str], token: str | None = None) -> dict[str, Any]:
    require_encryption(auth_url)
    headers = {"apikey": key} if token is None else {"apikey": key, "Authorization": f"Bearer {token}"}
    url = f"{auth_url}/auth/v1/{path}"
    return _result(lambda: httpx.post(url, json=body, headers=headers, timeout=TIMEOUT_SECONDS), auth_url)


def _store(server: str, auth_url: str, key: str, tokens: dict[str, Any]) -> Session:
    session = Session(
        server=server,
        auth_url=auth_url,
        key=key,
        access_token=tokens["access_token"],
        refresh_token=tokens["refresh_token"],
        expires_at=time.time() + tokens["expires_in"],
    )
    session_path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(session_path(), [msgspec.json.encode(session)])
    return session


def signed_in(server: str | None) -> bool:
    """Whether the REST API can be used: a server is given, a session is stored or a token is set."""
    return bool(os.environ.get("ONSEMBL_TOKEN")) or server is not None or stored_session() is not None


class OperatorClient:
    """Sends requests as the signed-in operator. Raises CliError with the server's error text."""

    def __init__(self, server: str | None) -> None:
        self._session = stored_session()
        self._token = os.environ.get("ONSEMBL_TOKEN")
        if self._token is None and (
            self._session is None or (server is not None and server.rstrip("/") != self._session.server)
        ):
            raise CliError(f"Sign in first: {command_line('login', '--server', server or 'https://…')}")
        base = server or (self._session.server if self._session is not None else None)
        if base is None:
            raise CliError("The control center's URL is missing. Give --server or set ONSEMBL_SERVER.")
        require_encryption(base)
        self._server = base
        self._http = httpx.Client(base_url=base, auth=self._authorize, timeout=TIMEOUT_SECONDS)

    @property
    def server(self) -> str:
        """The control center's URL."""
        return self._server

    def access_token(self) -> str:
        """The access token, renewed if it expires soon. Raises CliError."""
        return self._token or self._valid_token()

    def _authorize(self, request: httpx.Request) -> httpx.Request:
        request.headers["Authorization"] = f"Bearer {self.access_token()}"
        return request

    def _valid_token(self) -> str:
        """The session's access token, renewed if it expires soon."""
        assert self._session is not None
        if _expires_soon(self._session):
            # Another process of this user may have renewed the session: a refresh token works only once.
            session = stored_session() or self._session
            if _expires_soon(session):
                body = {"refresh_token": session.refresh_token}
                try:
                    tokens = _tokens(session.auth_url, session.key, "refresh_token", body)
                    session = _store(session.server, session.auth_url, session.key, tokens)
                except ServerUnavailable:
                    raise
                except CliError as error:
                    raise self._rejected("Your session has expired", session.server) from error
            self._session = session
        return self._session.access_token

    def __enter__(self) -> OperatorClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def create(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to a POST that creates something. Its idempotency key makes it safe to send again."""
        post = partial(self._http.post, path, json=dict(body), headers={"Idempotency-Key": str(uuid4())})

        def send() -> httpx.Response:
            for pause in CREATE_RETRY_SECONDS:
                with suppress(httpx.TransportError):
                    return post()
                time.sleep(pause)
            return post()

        return self._answer(send)

    def upload(self, path: str, name: str, content: bytes, media_type: str) -> Any:
        """The answer to a POST of a file."""
        headers = {"Content-Type": media_type}
        return self._answer(
            lambda: self._http.post(
                path, params={"name": name}, content=content, headers=headers, timeout=UPLOAD_SECONDS
            )
        )

    def request(
        self, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> Any:
        """The answer to one request, within `timeout` seconds."""
        return self._answer(lambda: self._http.request(method, path, json=body, timeout=timeout))

    def _answer(self, send: Callable[[], httpx.Response]) -> Any:
        try:
            return _result(send, self._server)
        except Unauthenticated as error:
            raise self._rejected(error.message.rstrip("."), self._server) from error

    def _rejected(self, reason: str, server: str) -> CliError:
        if self._token is not None:
            return CliError(f"{reason}: the access token in ONSEMBL_TOKEN is expired or not valid at {server}.")
        return CliError(f"{reason}. Sign in again: {command_line('login', '--server', server)}")

    def collect(
        self, path: str, field: str, query: Mapping[str, Any], limit: int, *, cursor: str = "before"
    ) -> list[dict[str, Any]]:
        """Up to `limit` rows of a paginated list, which each answer has in `field`."""
        rows: list[dict[str, Any]] = []
        parameters = {name: value for name, value in query.items() if value is not None}
        while len(rows) < limit:
            parameters["limit"] = min(limit - len(rows), PAGE_SIZE)
            page = self.request("GET", f"{path}?{urlencode(parameters)}")
            rows += page[field]
            if page[f"next_{cursor}"] is None:
                break
            parameters[cursor] = page[f"next_{cursor}"]
        return rows

    def poll(self, path: str) -> Any:
        """The answer to a GET that waits for a change. Retries while the server is unavailable."""
        deadline = time.monotonic() + POLL_PATIENCE_SECONDS
        while True:
            try:
                return self.request("GET", path)
            except ServerUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_RETRY_SECONDS)

    def download(
        self,
        path: str,
        params: Mapping[str, str],
        write: Callable[[bytes], object],
        begin: Callable[[httpx.Headers], object] = lambda _: None,
    ) -> None:
        """Pass the headers of a file to `begin`, and its content to `write`, chunk by chunk."""
        try:
            with self._http.stream("GET", path, params=params) as response:
                if not response.is_success:
                    response.read()
                    self._answer(lambda: response)
                begin(response.headers)
                for chunk in response.iter_bytes():
                    write(chunk)
        except httpx.HTTPError as error:
            raise ServerUnavailable(f"The server {self._server} cannot be reached: {_reason(error)}") from error

    @contextmanager
    def lines(self, path: str, params: Mapping[str, str], headers: Mapping[str, str]) -> Generator[Iterator[str]]:
        """The lines of an answer, as they come. Raises CliError, also in the block when the connection is lost."""
        try:
            with self._http.stream("GET", path, params=params, headers=headers) as response:
                if not response.is_success:
                    response.read()
                    self._answer(lambda: response)
                yield response.iter_lines()
        except httpx.HTTPError as error:
            raise ServerUnavailable(f"The server {self._server} cannot be reached: {_reason(error)}") from error

    def agent_names(self) -> dict[str, str]:
        """The name of each agent, by its id."""
        return {agent["id"]: agent["name"] for agent in self.request("GET", "/v1/agents")["agents"]}

    def agent_id(self, name: str) -> str:
        """The id of the agent with this name or id. Raises CliError when there is none."""
        for agent_id, agent_name in self.agent_names().items():
            if name in (agent_name, agent_id):
                return agent_id
        raise CliError(f"There is no agent {name}.")


def _expires_soon(session: Session) -> bool:
    return session.expires_at - time.time() < RENEW_BEFORE_SECONDS


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _result(send: Callable[[], httpx.Response], server: str) -> Any:
    """The JSON answer. Raises CliError."""
    try:
        response = send()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerUnavailable(f"The server {server} cannot be reached: {_reason(error)}") from error
    # A refusal without a JSON text is not the server's: something in between may give it for a while.
    foreign = not response.is_success and "json" not in response.headers.get("Content-Type", "")
    transient = response.status_code == 429 or response.is_server_error or foreign
    error_class = ServerUnavailable if transient else Unauthenticated if response.status_code == 401 else CliError
    try:
        body = response.json()
    except ValueError as error:
        raise error_class(f"The server answered {response.status_code} without a JSON text.") from error
    if response.is_success:
        return body
    told: dict[str, Any] = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    message = told.get("detail") or told.get("msg") or told.get("error_description") or response.reason_phrase
    raise error_class(str(message))
