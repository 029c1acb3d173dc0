"""Bad input is an answer: no request is answered with an error of the server, or breaks its connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.frames import HELLO
from support.hosts import SimulatedHost
from support.rest_examples import EXAMPLES, SPAN, Example, Objects
from support.server import running
from websockets.asyncio.client import ClientConnection

from onsembl.api.auth.rate_limits import Allowance, RateLimits
from onsembl.api.http import url_check
from onsembl.api.http.openapi import document
from onsembl.api.release_wheel import Wheel
from onsembl.protocol.release import Release

pytestmark = pytest.mark.no_worker

UNLIMITED = Allowance(10**9, 0.001)
LIMITS = RateLimits(
    agent_connects=UNLIMITED,
    address_failures=UNLIMITED,
    address_device_requests=UNLIMITED,
    user_codes=UNLIMITED,
    address_invalid_tokens=UNLIMITED,
)
DEEP: Any = None
for _ in range(400):
    DEEP = [DEEP]
TEXTS = [
    "",
    "\0",
    "a\0b",
    "\ud800",
    "one\n",
    "9" * 19,
    "9" * 30,
    "-1",
    "1e999",
    "NaN",
    "9999-12-31T23:59:59-12:00",
    "0001-01-01T00:00:00+12:00",
    "2026-01-01T00:00:00",
    "[9223372036854775808,0]",
    "[" * 150,
    "{{#goal}}",
    "%00",
    "../../etc/passwd",
    "\u202egnp.exe",
    "😀" * 64,
    "語" * 60_000,
]
VALUES = [None, True, [], {}, DEEP, 0, -1, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, -(10**30), 1e308, 0.5, *TEXTS]
OTHER_BODIES: dict[str, dict[str, Any] | str] = {
    "/v1/device/authorization": "client_id=onsembl-agent&name=two&kind=shell&host=h",
    "/v1/device/token": "client_id=onsembl-agent&grant_type=urn:ietf:params:oauth:grant-type:device_code&device_code=x",
    "/auth/v1/token?grant_type=password": {"email": "a@example.org", "password": "x"},
    "/auth/v1/token?grant_type=refresh_token": {"refresh_token": "x"},
    "/auth/v1/signup": {"email": "b@example.org", "password": "correct horse", "data": {"a": 1}},
    "/auth/v1/user": {"data": {"a": "b"}},
    "/realtime/v1/api/broadcast": {
        "messages": [{"topic": "t", "event": "e", "payload": {"a": 1}, "private": False}],
    },
}
"""Routes that take a body and are not in the OpenAPI document: a form (text), or JSON."""
BODIES = [
    b"",
    b"{",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
    b'{"x":' * 5000,
    b'{"text": "\xed\xa0\x80"}',
    b'{"priority": ' + b"9" * 5000 + b"}",
    b"null",
    b"[]",
    b"\0",
]


@dataclass(frozen=True)
class Request:
    """A request, and the places in it that take a hostile value."""

    operation: str
    method: str
    template: str
    path: dict[str, str]
    example: Example
    headers: dict[str, str]

    @property
    def places(self) -> list[tuple[str | int, ...]]:
        """The paths to every parameter, and to every value in the body."""
        found: list[tuple[str | int, ...]] = [("path", name) for name in self.path]
        found += [("query", name) for name in self.example.query]
        if self.example.body is not None:
            found += [("body", *place) for place in places_in(self.example.body)]
        return found

    def put(self, place: tuple[str | int, ...], value: Any) -> Request:
        """The request with another value at a place. A parameter of a URL is text."""
        kind, *keys = place
        match kind:
            case "path":
                return replace(self, path={**self.path, str(keys[0]): as_text(value)})
            case "query":
                query = {**self.example.query, str(keys[0]): as_text(value)}
                return replace(self, example=replace(self.example, query=query))
            case _:
                body: Any = {"": deepcopy(self.example.body)}
                inner, last = body, ""
                for key in keys:
                    inner, last = inner[last], key
                inner[last] = value
                return replace(self, example=replace(self.example, body=body[""]))

    def value_at(self, place: tuple[str | int, ...]) -> Any:
        """The valid value at a place."""
        kind, *keys = place
        value: Any = {"path": self.path, "query": self.example.query, "body": self.example.body}[str(kind)]
        for key in keys:
            value = value[key]
        return value

    @property
    def target(self) -> str:
        path = self.template
        for name, value in self.path.items():
            path = path.replace(f"{{{name}}}", quote(encoded(value), safe=""))
        query = urlencode({name: encoded(value) for name, value in self.example.query.items()})
        return f"{path}?{query}" if query else path

    @property
    def body(self) -> bytes:
        if self.example.file is not None:
            return self.example.file
        return json.dumps(self.example.body).encode() if self.example.body is not None else b""


def worst_for(value: Any) -> Any:
    """A value of the same kind that a column cannot hold: an integer, a time, or a text."""
    if isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal()):
        return 10**30
    return "9999-12-31T23:59:59-12:00" if value in SPAN.values() else "a\0b"


def places_in(value: Any) -> Iterator[tuple[str | int, ...]]:
    """The paths to every value in a JSON value, itself included."""
    yield ()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        for place in places_in(item):
            yield (key, *place)


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def encoded(text: str) -> bytes:
    return text[:2000].encode("utf-8", "surrogatepass")


class KeptConnection:
    """One connection that is kept alive: only an answer that says so may close it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._http = HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self.sent = 0

    def close(self) -> None:
        self._http.close()

    def ask(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> int:
        """The status of the answer, which must come whole. Raises an error if the connection breaks."""
        self._http.request(method, target, body, headers)
        answer = self._http.getresponse()
        answer.read()
        self.sent += 1
        return answer.status

    def send(self, request: Request, body: bytes | None = None) -> int:
        raw = body if body is not None else request.body
        return self.ask(request.method, request.target, raw, request.headers)


async def requests_of(objects: Objects) -> list[Request]:
    """A valid request for each operation of the OpenAPI document."""
    found: list[Request] = []
    for template, methods in document()["paths"].items():
        for method, operation in methods.items():
            name = operation["operationId"]
            example = await objects.completed(name, EXAMPLES.get(name, Example()))
            path = {
                parameter["name"]: await objects.path_value(name, parameter["name"])
                for parameter in operation["parameters"]
                if parameter["in"] == "path"
            }
            headers = {
                "Authorization": f"Bearer {await objects.credential(example.token)}",
                "Content-Type": "application/json",
            }
            found.append(Request(name, method.upper(), template, path, example, headers))
    return found


def test_the_examples_have_every_part_of_a_request():
    """The example of each operation has every query parameter and every field of the body."""
    whole = document()
    for methods in whole["paths"].values():
        for operation in methods.values():
            example = EXAMPLES.get(operation["operationId"], Example())
            query = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
            missing = query - set(example.query) - EXCLUDE_EACH_OTHER
            assert not missing or query == set(), f"{operation['operationId']}: {missing}"
            assert ("requestBody" in operation) == (example.body is not None or example.file is not None), operation[
                "operationId"
            ]


EXCLUDE_EACH_OTHER = {"since", "until", "start", "end", "before", "cursor", "agent_id", "group_id"}
"""Parameters that not every example has, because others take their place."""


# The server's tasks draw from `random` on the test's thread meanwhile, and hypothesis takes that for its own draw.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.seconds(20)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("examples", [60, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
async def test_no_request_is_answered_with_a_server_error(settings, monkeypatch, examples):
    """Each operation succeeds with a valid request; no hostile value in any place of it is a server's error. Without
    the check of URLs, one is."""
    async with running(replace(settings, limits=LIMITS)) as api:
        api.services.release_wheel._packed = WHEEL  # a server that runs from its sources has none
        admin = await api.operator()
        online = await api.enrol("online")
        async with api.agent_socket(online) as socket:
            await socket.send(json.dumps({**HELLO, "shows_files": True}))
            await socket.recv()
            looked_at = asyncio.create_task(show_a_file(socket))
            objects = Objects(api, admin, online.id)
            host = await (await SimulatedHost.enrolled(api)).connect()
            objects.serving_host = host.id
            starting = asyncio.create_task(host.start_all())
            requests = await requests_of(objects)
            with closing(KeptConnection(api.url)) as connection:
                await asyncio.to_thread(send_valid_ones, connection, requests)
                await asyncio.to_thread(send_hostile_ones, connection, requests, examples)
                await asyncio.to_thread(send_other_ones, connection, await api.key(), admin.access_token)
            assert connection.sent > 300
            assert (await api.http.get("/readyz")).status_code == 200
            monkeypatch.setattr(url_check, "_is_text", lambda _part: True)
            with closing(KeptConnection(api.url)) as connection, pytest.raises(AssertionError):
                await asyncio.to_thread(send_worst_ones, connection, requests)
            looked_at.cancel()
            starting.cancel()


WHEEL = Wheel(Release(version="1", wheel="onsembl-1-py3-none-any.whl", size=1, sha256="0" * 64), b"x")


async def show_a_file(socket: ClientConnection) -> None:
    """Answer each look at the agent's files."""
    async for frame in socket:
        message = json.loads(frame)
        if message["type"] == "look":
            part = {"type": "look_part", "request_id": message["request_id"], "number": 0, "last": True}
            await socket.send(json.dumps({**part, "text": '{"path":"a.txt","kind":"text","text":"x"}'}))


def send_valid_ones(connection: KeptConnection, requests: list[Request]) -> None:
    in_order = sorted(requests, key=lambda request: request.method == "DELETE")
    statuses = {request.operation: connection.send(request) for request in in_order}
    assert {name: status for name, status in statuses.items() if not 200 <= status < 300} == {}


def send_other_ones(connection: KeptConnection, key: str, token: str) -> None:
    """Send hostile URLs and bodies to the routes that are not in the OpenAPI document."""
    headers = {"apikey": key, "Authorization": f"Bearer {token}"}
    for path in ("/%00", "/assets/%00", "/config.json?%00=%FF", "/metrics?a=%00", "/healthz?%00", "/auth/v1/user?%00"):
        assert connection.ask("GET", path, b"", headers) == 400, path
    for path, valid in OTHER_BODIES.items():
        content = "application/x-www-form-urlencoded" if isinstance(valid, str) else "application/json"
        method = "PUT" if path == "/auth/v1/user" else "POST"
        bodies = list(BODIES)
        for name in urlsplit(f"?{valid}").query.split("&") if isinstance(valid, str) else ():
            bodies.append(valid.replace(name, f"{name}%00").encode())
        for place in places_in(valid) if isinstance(valid, dict) else ():
            for value in ("a\0b", 10**30, DEEP):
                changed: Any = {"": deepcopy(valid)}
                inner: Any = changed
                last: str | int = ""
                for key_ in place:
                    inner, last = inner[last], key_
                inner[last] = value
                bodies.append(json.dumps(changed[""]).encode())
        for body in bodies:
            status = connection.ask(method, path, body, {**headers, "Content-Type": content})
            assert status < 500, (path, body[:100])


def send_worst_ones(connection: KeptConnection, requests: list[Request]) -> None:
    """Send the worst value for each place once."""
    for request in requests:
        for place in request.places:
            hostile = request.put(place, worst_for(request.value_at(place)))
            assert connection.send(hostile) < 500, hostile


def send_hostile_ones(connection: KeptConnection, requests: list[Request], examples: int) -> None:
    """Send the worst value for each place once, and then whatever hypothesis draws."""
    send_worst_ones(connection, requests)
    with_body = [request for request in requests if request.example.body is not None]
    for raw in BODIES:
        for request in with_body[:: len(BODIES)]:
            assert connection.send(request, raw) < 500, (request, raw[:50])

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def hostile_values_are_answered(data: st.DataObject) -> None:
        request = data.draw(st.sampled_from([request for request in requests if request.places]))
        for _ in range(data.draw(st.integers(1, 2))):
            places = request.places
            if places:
                value = data.draw(st.one_of(st.sampled_from(VALUES), st.text(), st.integers()))
                request = request.put(data.draw(st.sampled_from(places)), value)
        assert connection.send(request) < 500, request

    hostile_values_are_answered()
