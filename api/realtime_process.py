"""The application of a process that serves the built-in Realtime for all instances of one `onsembl up`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onsembl.api.auth.rejections import Rejections
from onsembl.api.auth.shared_failures import SharedFailures
from onsembl.api.auth.sign_in_audit import audit_sign_ins
from onsembl.api.http.client_address import FORWARDED_FOR, ClientAddress
from onsembl.api.http.problems import Problem, problem_answer
from onsembl.api.instances.instance import disconnect_users
from onsembl.api.metrics import Metrics, RealtimeMetrics
from onsembl.api.routes.metrics import admit
from onsembl.api.settings import Settings
from onsembl.fleet.instance_messages import Broadcast
from onsembl.fleet.listener import Listener
from onsembl.protocol.ids import OperatorId
from onsembl.realtime.builtin import BuiltinSupabase
from onsembl.sql import instances, operators
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import Pool
from onsembl.sql.process_database import FEWEST_FOR_API, ProcessDatabase
from onsembl.sql.supervision import start_supervised


def create_realtime_app(settings: Settings, on_failure: Callable[[Exception], None]) -> Starlette:
    """The ASGI application. `on_failure` gets the error when a background task fails after each restart.

    Instances pass the client's address in the header of the settings, so only they may reach the process.
    """
    database = ProcessDatabase(settings.database_url, FEWEST_FOR_API, pooler_url=settings.pooler_url, api=True)
    metrics = Metrics()
    rejections = Rejections(database.work, metrics.rejected)
    builtin = BuiltinSupabase(
        database_url=settings.database_url,
        issuer=f"{settings.public_url}/auth/v1",
        on_event=audit_sign_ins(database.work, SharedFailures()),
        on_rejected=rejections.record,
        on_failure=on_failure,
        settings=settings.auth,
        limits=settings.realtime_limits,
    )
    assert builtin.realtime is not None
    metrics.registry.register(RealtimeMetrics(builtin.realtime))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(database)
            await builtin.start()
            stack.push_async_callback(builtin.stop)
            stack.push_async_callback(rejections.write)
            listener = Listener(settings.database_url)
            operators_of = _Operators(builtin, database.work)
            run = partial(start_supervised, on_failure=on_failure)
            tasks = [
                run("The listening connection", listener.run),
                run("The receiver of messages", partial(operators_of.receive, listener)),
                run("The writer of rejections", rejections.write_forever),
                run("The measurement of the event loop", metrics.loop_lag.watch),
            ]
            stack.push_async_callback(cancel_until_done, tasks)
            yield

    async def read_metrics(request: Request) -> Response:
        admit(request, settings.metrics_token)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/metrics", read_metrics), *builtin.realtime_routes],
        lifespan=lifespan,
        middleware=[Middleware(ClientAddress, header=settings.client_address_header or FORWARDED_FOR)],
        exception_handlers={Problem: problem_answer},
    )


class _Operators:
    """Applies changes of operators and of the keys of their tokens."""

    def __init__(self, builtin: BuiltinSupabase, pool: Pool) -> None:
        self._builtin = builtin
        self._pool = pool

    async def receive(self, listener: Listener) -> None:
        """Apply the changes as they come, until cancelled."""
        await listener.listen([instances.BROADCAST_CHANNEL], self._apply, self._catch_up)

    async def _apply(self, _channel: str, payload: str) -> None:
        broadcast = msgspec.json.decode(payload, type=Broadcast)
        if broadcast.op == "operator_changed":
            assert broadcast.operator_id is not None
            disconnect_users(self._builtin, [OperatorId(broadcast.operator_id)])
        elif broadcast.op == "operator_keys_changed":
            await self._builtin.reload_signing_keys()

    async def _catch_up(self) -> None:
        """Act as if every message had come again: the connection that listens was lost, and messages with it."""
        await self._builtin.reload_signing_keys()
        async with self._pool.connection() as conn:
            disconnect_users(self._builtin, await operators.disabled(conn))
