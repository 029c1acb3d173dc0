"""Routes with their inputs, answers and roles. Starlette's routes and the OpenAPI document are made from them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onsembl.api.auth.operator import Operator
from onsembl.api.http.client_address import client_address
from onsembl.api.http.models import NoBody
from onsembl.api.http.problems import Problem, unauthenticated
from onsembl.api.services import Services
from onsembl.fleet.json_rows import to_json
from onsembl.protocol.json_input import InputError, InvalidInput, decode
from onsembl.protocol.states import Role
from onsembl.realtime.bodies import CLOSE, BodyRejected, read_body
from onsembl.sql.audit import Actor

MAX_BODY_BYTES = 1024 * 1024
JSON = "application/json"

B = TypeVar("B")
Q = TypeVar("Q")


class _RowNumberConvertor(IntegerConvertor):
    """The number of a row in a path: a Postgres bigint."""

    regex = "[0-9]{1,18}"


register_url_convertor("number", _RowNumberConvertor())


@dataclass(frozen=True, slots=True)
class Call(Generic[B]):
    """One authorized request: its validated body, and its operator."""

    services: Services
    request: Request
    body: B
    token: str
    operator: Operator | None

    @property
    def signed_in(self) -> Operator:
        """The operator; a route with a role always has one."""
        assert self.operator is not None
        return self.operator

    @property
    def address(self) -> str:
        return client_address(self.request)

    @property
    def actor(self) -> Actor:
        """The operator, as the audit log's actor."""
        return Actor("operator", self.signed_in.id, self.signed_in.email, self.address)

    def id(self, name: str) -> UUID:
        """The id with this name in the path."""
        return self.request.path_params[name]

    def query(self, model: type[Q]) -> Q:
        """The query string as `model`. Raises Problem 400."""
        try:
            return msgspec.convert(dict(self.request.query_params), model, strict=False)
        except msgspec.ValidationError as error:
            raise Problem(400, f"The query is invalid: {error}.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One route of the REST API.

    `role` is the lowest role that may use the route; None for a route that takes another bearer token, which `presents`
    names. A handler that streams its answer returns a Response of another `media_type`; `answer` is then unused.
    One that also answers as a stream, when the client accepts it, has its media type in `streams`.
    With `takes_file` the body is the content of a file, which the handler reads by `body_of`.
    `old_paths` are the paths of the last release; they still answer, and are not in the OpenAPI document.
    """

    method: str
    path: str
    handler: Callable[[Call[Any]], Awaitable[object]]
    summary: str
    answer: type[msgspec.Struct]
    old_paths: tuple[str, ...] = ()
    media_type: str = JSON
    streams: str | None = None
    role: Role | None = Role.VIEWER
    presents: str = "an operator's access token"
    body: type[msgspec.Struct] = NoBody
    takes_file: bool = False
    query: type[msgspec.Struct] | None = None
    status: int = 200
    problems: tuple[int, ...] = ()

    @property
    def is_json(self) -> bool:
        """Whether the answer is JSON of the type `answer`."""
        return self.media_type == JSON

    def routes(self) -> list[Route]:
        """The Starlette routes: of `path`, and of `old_paths`."""
        return [
            Route(path, self._serve, methods=[self.method], name=self.handler.__name__)
            for path in (self.path, *self.old_paths)
        ]

    async def _serve(self, request: Request) -> Response:
        services: Services = request.app.state.services
        try:
            answer = await self._answer(request, services)
        except Problem as problem:
            address = client_address(request)
            if problem.status in (401, 403, 429):
                services.rejections.record(f"{self.method} {self.path}", problem.detail, address)
            if problem.status == 401:
                limiter = services.rate_limiter
                count = limiter.record_failure if self.role is None else limiter.record_invalid_token
                count(address)
            raise
        if isinstance(answer, Response):
            return answer
        body = to_json(answer, partial(services.unreadable.record, f"{self.method} {self.path}"))
        return Response(body, self.status, media_type=self.media_type)

    async def _answer(self, request: Request, services: Services) -> object:
        token = bearer(request)
        operator = None
        if self.role is not None:
            operator = await services.authorize(token, self.role, client_address(request))
        else:
            services.rate_limiter.count_token_request(client_address(request))
        body = await self._read(request) if not self.takes_file else NoBody()
        return await self.handler(Call(services, request, body, token, operator))

    async def _read(self, request: Request) -> msgspec.Struct:
        raw = await body_of(request, MAX_BODY_BYTES)
        try:
            return decode(_decoder(self.body), raw or b"{}")
        except InvalidInput as error:
            raise Problem(422, f"The body is invalid: {error}.") from error
        except InputError as error:
            raise Problem(400, f"The body is not JSON: {error}.") from error


@cache
def _decoder(body: type[B]) -> msgspec.json.Decoder[B]:
    return msgspec.json.Decoder(body)


async def body_of(request: Request, most_bytes: int, seconds: float | None = None) -> bytes:
    """The whole body, which arrives within `seconds`, by default `BODY_SECONDS`. Raises Problem 408 or 413."""
    try:
        return await read_body(request, most_bytes, seconds)
    except BodyRejected as refused:
        raise Problem(refused.status, str(refused), headers=CLOSE) from refused


def bearer(request: Request) -> str:
    """The bearer token of a request. Raises Problem 401."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("Present a token: Authorization: Bearer …")
    return token
