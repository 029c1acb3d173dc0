"""`/admin/users`: the users, managed with the secret key."""

from __future__ import annotations

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onsembl.realtime.auth.accounts import Accounts, AdminUserAttributes
from onsembl.realtime.auth.errors import AuthError
from onsembl.realtime.auth.gateway import Gateway
from onsembl.realtime.auth.requests import AdminUserParams, client_address, page_of, read_body, seconds_of
from onsembl.realtime.auth.responses import Handler, json_response, user_json


class AdminRoutes:
    """The endpoints over the project's users."""

    def __init__(self, accounts: Accounts, gateway: Gateway) -> None:
        self._accounts = accounts
        self._gateway = gateway

    def routes(self) -> list[Route]:
        table = [
            ("/admin/users", "GET", self.list),
            ("/admin/users", "POST", self.create),
            ("/admin/users/{user_id}", "GET", self.read),
            ("/admin/users/{user_id}", "PUT", self.change),
            ("/admin/users/{user_id}", "DELETE", self.delete),
        ]
        return [Route(path, self._guard(handler), methods=[method]) for path, method, handler in table]

    def _guard(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            self._gateway.require_key(request)
            self._gateway.require_admin(request)
            return await handler(request)

        return guarded

    async def list(self, request: Request) -> Response:
        page, size = page_of(request)
        users, total = await self._accounts.list(size, (page - 1) * size)
        response = json_response({"users": [user_json(user) for user in users], "aud": "authenticated"})
        last = -(-total // size)
        links = [f'<{request.url.path}?page={page + 1}&per_page={size}>; rel="next"'] if page < last else []
        links.append(f'<{request.url.path}?page={last}&per_page={size}>; rel="last"')
        response.headers["Link"] = ", ".join(links)
        response.headers["X-Total-Count"] = str(total)
        return response

    async def create(self, request: Request) -> Response:
        body = await read_body(request, AdminUserParams)
        if not body.email:
            raise AuthError(400, "validation_failed", "Cannot create a user without either an email or phone")
        return json_response(
            user_json(await self._accounts.create(_attributes(body), client_address(request), user_id=body.id))
        )

    async def read(self, request: Request) -> Response:
        return json_response(user_json(await self._accounts.get(_user_id(request))))

    async def change(self, request: Request) -> Response:
        user_id = _user_id(request)
        body = await read_body(request, AdminUserParams)
        return json_response(
            user_json(await self._accounts.change(user_id, _attributes(body), client_address(request)))
        )

    async def delete(self, request: Request) -> Response:
        """Delete the user for good, also where the client asks for a soft deletion."""
        await self._accounts.delete(_user_id(request), client_address(request))
        return json_response({})


def _attributes(body: AdminUserParams) -> AdminUserAttributes:
    if body.phone:
        raise AuthError(422, "phone_provider_disabled", "Phone logins are disabled")
    if body.role not in (None, "", "authenticated"):
        raise AuthError(422, "validation_failed", "Users have the database role authenticated here")
    return AdminUserAttributes(
        email=body.email,
        password=body.password,
        app_metadata=body.app_metadata,
        user_metadata=body.user_metadata,
        confirm=bool(body.email_confirm),
        ban=seconds_of(body.ban_duration) if body.ban_duration else None,
    )


def _user_id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["user_id"])
    except ValueError as error:
        raise AuthError(404, "validation_failed", "user_id must be an UUID") from error
