"""What one viewer does besides looking: asks for control of the terminal, and types."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout

from onsembl.api.auth.operator import Operator
from onsembl.api.services import Services
from onsembl.api.terminals.terminal import Terminal
from onsembl.protocol.control import Client, Control, UnansweredKeys
from onsembl.protocol.ids import AgentId
from onsembl.protocol.keyboard_messages import KeysRejection
from onsembl.protocol.messages import GrantControl, Keys, KeysTaken, Message, ReleaseControl, TakeControl
from onsembl.protocol.states import Role
from onsembl.sql import audit
from onsembl.sql.audit import Actor

logger = logging.getLogger(__name__)

LOG_SECONDS = 5.0
"""How long a change of control waits for a connection to be logged over."""

Change = tuple[str, dict[str, object]]
"""An action of the audit log, and its detail."""


def _passed_on(control: Control) -> list[Change]:
    """Who types next, for the log; it is whoever waited longest."""
    return [("terminal.controlled", {"given_to": control.controller.name})] if control.controller is not None else []


class ViewerControl:
    """One viewer's way to the program. `send` reaches the viewer; `operator` is whoever it is now."""

    def __init__(
        self,
        services: Services,
        agent_id: AgentId,
        terminal: Terminal,
        send: Callable[[Message], Awaitable[None]],
        operator: Callable[[], Operator],
        address: str,
    ) -> None:
        self.agent_id = agent_id
        self._services = services
        self._hub = services.hub
        self._terminal = terminal
        self._send = send
        self._operator = operator
        self._address = address
        self._client_id: UUID | None = None
        self._pending = UnansweredKeys()
        self._met = False
        self._boot: UUID | None = None
        self._answers: deque[KeysTaken] = deque()

    @property
    def may_size(self) -> bool:
        """Whether this window's size is the terminal's: the controller's, or any operator's while there is none."""
        control = self._terminal.control
        if control.controller is None:
            return self._may_write
        return self._client_id is not None and control.holds(self._client_id)

    @property
    def _may_write(self) -> bool:
        role = self._operator().role
        return role is not None and role.includes(Role.OPERATOR)

    def connected(self, client_id: UUID | None) -> None:
        """The page is connected, perhaps again."""
        if client_id is not None and self._may_write and self._is_ours(client_id):
            self._be(client_id)

    def _be(self, client_id: UUID) -> None:
        """This connection is the page's that has this id."""
        if client_id != self._client_id:
            self.disconnected()
            self._client_id = client_id
            self._terminal.control.connected(client_id)

    def disconnected(self) -> None:
        """The page's connection is over."""
        if self._client_id is None:
            return
        if self._hub.typing.get(self._client_id) is self:
            del self._hub.typing[self._client_id]
        self._terminal.control.disconnected(self._client_id, time.monotonic())
        self._client_id = None
        self._terminal.wake()
        self._services.background_tasks.start(self._expire())

    async def _expire(self) -> None:
        """Free the terminal of somebody who does not come back."""
        control = self._terminal.control
        while (left := control.expires_in(time.monotonic())) is not None and left > 0:  # noqa: ASYNC110 — or it comes
            await asyncio.sleep(left)
        async with self._terminal.control_changing:
            lost = control.expire(time.monotonic())
            if lost is not None:
                self._terminal.wake()
                ended: Change = ("terminal.control_ended", {"from": lost.name})
                await self._log_done(ended, *_passed_on(control), actor=audit.SYSTEM)

    async def receive(self, message: Keys | TakeControl | GrantControl | ReleaseControl) -> None:
        """What the page wants. The role is looked at each time: it may have changed with the token."""
        if isinstance(message, Keys):
            await self._type(message)
        elif self._may_write:
            await self._change_control(message)

    # Control

    async def _change_control(self, message: TakeControl | GrantControl | ReleaseControl) -> None:
        """Nobody but us changes the controller meanwhile, so that the log tells what happens."""
        async with self._terminal.control_changing:
            match message:
                case TakeControl() if self._is_ours(message.client_id):
                    self._be(message.client_id)
                    await self._take(Client(message.client_id, self._operator().email), message.from_another)
                case GrantControl() if self._client_id is not None:
                    await self._grant(self._client_id, message.to)
                case ReleaseControl() if self._client_id is not None:
                    await self._release(self._client_id)
                case _:
                    return
        self._terminal.wake()

    async def _take(self, client: Client, from_another: bool) -> None:
        """Logged first: what cannot be logged does not happen."""
        control = self._terminal.control
        before = control.controller
        if before is None:
            taken = await self._log(("terminal.controlled", {}))
        elif before.id == client.id:
            return
        elif from_another:
            taken = await self._log(("terminal.control_taken_over", {"from": before.name}))
        else:
            control.request(client)
            return
        if taken:
            control.take(client)

    async def _grant(self, giver: UUID, to: UUID) -> None:
        control = self._terminal.control
        chosen = next((client for client in control.waiting if client.id == to), None)
        if chosen is None or not control.holds(giver):
            return
        if await self._log(("terminal.controlled", {"given_to": chosen.name})) and control.grant(giver, to) is None:
            await self._log(("terminal.controlled", {}))  # whom it was given to has just left

    async def _release(self, client_id: UUID) -> None:
        control = self._terminal.control
        if control.release(client_id):
            self._terminal.wake()
            await self._log_done(("terminal.control_ended", {}), *_passed_on(control))

    def _is_ours(self, client_id: UUID) -> bool:
        """A page's id is its operator's: nobody speaks for the controller but the controller."""
        controller = self._terminal.control.controller
        return controller is None or controller.id != client_id or controller.name == self._operator().email

    async def _log_done(self, *changes: Change, actor: Actor | None = None) -> None:
        """Log what has happened already, though the viewer may leave meanwhile."""
        await asyncio.shield(self._log(*changes, actor=actor))

    async def _log(self, *changes: Change, actor: Actor | None = None) -> bool:
        """Whether it could be; by the operator, where it was nobody else."""
        operator = self._operator()
        by = actor or Actor("operator", operator.id, operator.email, self._address)
        target = str(self.agent_id)
        try:
            async with self._services.pool.connection(timeout=LOG_SECONDS) as conn:
                for action, detail in changes:
                    await audit.write(
                        conn,
                        audit.Event(actor=by, action=action, target_kind="agent", target_id=target, detail=detail),
                    )
        except (psycopg.Error, PoolTimeout) as error:
            logger.warning("Control of a terminal could not be logged: %s", error, extra={"action": "control_unlogged"})
            return False
        return True

    # Keys

    async def _type(self, keys: Keys) -> None:
        link = self._hub.links.get(self.agent_id)
        if link is not None and not self._met:
            self._met, self._boot = True, link.boot
        refused = self._refusal(keys)
        if refused is None:
            added = self._pending.add(keys)
            if added is False:
                return  # it is under way
            if added is not True:
                refused = added
        if refused is not None:
            await self._send(KeysTaken(client_id=keys.client_id, seq=keys.seq, refused=refused))
            return
        self._hub.typing[keys.client_id] = self
        if link is not None:  # else it is typed when the agent is back
            await link.send(keys)

    def _refusal(self, keys: Keys) -> KeysRejection | None:
        if not self._may_write or keys.client_id != self._client_id or not self._terminal.control.holds(keys.client_id):
            return "not_in_control"
        return None if self._met else "offline"

    def taken(self, message: KeysTaken) -> None:
        """The agent has answered."""
        self._pending.answered(message.seq)
        self._answers.append(message)
        self._terminal.wake()

    def next_answer(self) -> KeysTaken | None:
        """What the viewer is to be told of its keys."""
        return self._answers.popleft() if self._answers else None

    async def again(self, boot: UUID | None) -> None:
        """The agent is connected again. What it has not answered is typed now if it had not been; another run of its
        program has nothing to do with what was meant for the last, and who lost control types no more."""
        restarted, self._boot = boot != self._boot, boot
        link = self._hub.links.get(self.agent_id)
        for keys in self._pending.all():
            refused = "restarted" if restarted else self._refusal(keys)
            if refused is not None:
                self._pending.answered(keys.seq)
                await self._send(KeysTaken(client_id=keys.client_id, seq=keys.seq, refused=refused))
            elif link is not None:
                await link.send(keys)
