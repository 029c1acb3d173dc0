"""What one viewer does beyond viewing: it asks for control of the terminal, and types."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from uuid import UUID

from onsembl.api.auth.operator import Operator
from onsembl.api.services import Services
from onsembl.api.terminals.terminal import Terminal
from onsembl.protocol.control import Client, Control, UnansweredKeys
from onsembl.protocol.ids import AgentId
from onsembl.protocol.keyboard_messages import KeysRejection
from onsembl.protocol.messages import GrantControl, Keys, KeysTaken, Message, ReleaseControl, Resize, TakeControl
from onsembl.protocol.states import Role
from onsembl.sql import audit
from onsembl.sql.audit import Actor
from onsembl.sql.database import DATABASE_ERRORS

logger = logging.getLogger(__name__)

AUDIT_SECONDS = 5.0
"""How long a change of control waits for a database connection to be audited over."""

ControlEvent = tuple[str, dict[str, object]]
"""An action of the audit log, and its detail."""


def _given_to_next(control: Control) -> list[ControlEvent]:
    """The event that control went to the client that has waited longest; empty when no client has waited."""
    return [("terminal.controlled", {"given_to": control.controller.name})] if control.controller is not None else []


class ViewerControl:
    """One viewer's control of the terminal, and its keyboard messages. It is the hub's TypingPage of this viewer.

    `send` sends to the viewer; `operator` returns the operator of its newest token.
    """

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
        self._seen_agent = False
        """Whether the agent was connected at a keyboard message, so that `_boot` is known."""
        self._boot: UUID | None = None
        self._answers: deque[KeysTaken] = deque()

    @property
    def _may_resize(self) -> bool:
        """Whether this viewer's window sets the terminal's size: it is the controller's, or an operator's while there
        is no controller."""
        control = self._terminal.control
        if control.controller is None:
            return self._may_control
        return self._client_id is not None and control.holds(self._client_id)

    @property
    def _may_control(self) -> bool:
        role = self._operator().role
        return role is not None and role.includes(Role.OPERATOR)

    def connected(self, client_id: UUID | None) -> None:
        """The page with this client id has attached, perhaps again. It has its control back if it held it."""
        if client_id is not None and self._may_control and self._is_own(client_id):
            self._adopt(client_id)

    def _adopt(self, client_id: UUID) -> None:
        """Make this connection the one of this client id."""
        if client_id != self._client_id:
            self.disconnected()
            self._client_id = client_id
            self._terminal.control.connected(client_id)

    def disconnected(self) -> None:
        """The page's connection was closed. Its control is kept for a grace time."""
        if self._client_id is None:
            return
        if self._hub.typing_pages.get(self._client_id) is self:
            del self._hub.typing_pages[self._client_id]
        self._terminal.control.disconnected(self._client_id, time.monotonic())
        self._client_id = None
        self._terminal.wake()
        self._services.background_tasks.start(self._expire())

    async def _expire(self) -> None:
        """End the control of a page that does not return within the grace time."""
        control = self._terminal.control
        while (left := control.expires_in(time.monotonic())) is not None and left > 0:  # noqa: ASYNC110 — or it returns
            await asyncio.sleep(left)
        async with self._terminal.control_changing:
            lost = control.expire(time.monotonic())
            if lost is not None:
                self._terminal.wake()
                ended: ControlEvent = ("terminal.control_ended", {"from": lost.name})
                await self._audit_done(ended, *_given_to_next(control), actor=audit.SYSTEM)

    async def receive(self, message: Keys | TakeControl | GrantControl | ReleaseControl) -> None:
        """Act on a message of the page. The role is checked each time, since a new token may have changed it."""
        if isinstance(message, Keys):
            await self._type(message)
        elif self._may_control:
            await self._change_control(message)

    # Control

    async def _change_control(self, message: TakeControl | GrantControl | ReleaseControl) -> None:
        """Change the controller, one change at a time, so that the audit log has the changes in their order."""
        async with self._terminal.control_changing:
            match message:
                case TakeControl() if self._is_own(message.client_id):
                    self._adopt(message.client_id)
                    await self._take(Client(message.client_id, self._operator().email), message.from_another)
                case GrantControl() if self._client_id is not None:
                    await self._grant(self._client_id, message.to)
                case ReleaseControl() if self._client_id is not None:
                    await self._release(self._client_id)
                case _:
                    return
        self._terminal.wake()

    async def _take(self, client: Client, from_another: bool) -> None:
        """Give this page control, or let it wait. The change is audited first: without an audit row there is none."""
        control = self._terminal.control
        before = control.controller
        if before is None:
            audited = await self._audit(("terminal.controlled", {}))
        elif before.id == client.id:
            return
        elif from_another:
            audited = await self._audit(("terminal.control_taken_over", {"from": before.name}))
        else:
            control.request(client)
            return
        if audited:
            control.take(client)

    async def _grant(self, giver: UUID, to: UUID) -> None:
        control = self._terminal.control
        chosen = next((client for client in control.waiting if client.id == to), None)
        if chosen is None or not control.holds(giver):
            return
        if await self._audit(("terminal.controlled", {"given_to": chosen.name})) and control.grant(giver, to) is None:
            await self._audit(("terminal.controlled", {}))  # the chosen client has just left: the giver keeps control

    async def _release(self, client_id: UUID) -> None:
        control = self._terminal.control
        if control.release(client_id):
            self._terminal.wake()
            await self._audit_done(("terminal.control_ended", {}), *_given_to_next(control))

    def _is_own(self, client_id: UUID) -> bool:
        """Whether this operator may use the client id: not if it is another operator's page that has control."""
        controller = self._terminal.control.controller
        return controller is None or controller.id != client_id or controller.name == self._operator().email

    async def _audit_done(self, *events: ControlEvent, actor: Actor | None = None) -> None:
        """Audit changes that were made already, also if the viewer leaves meanwhile."""
        await asyncio.shield(self._audit(*events, actor=actor))

    async def _audit(self, *events: ControlEvent, actor: Actor | None = None) -> bool:
        """Write the events to the audit log, by the operator unless `actor` is given; False when that failed."""
        operator = self._operator()
        by = actor or Actor("operator", operator.id, operator.email, self._address)
        target = str(self.agent_id)
        try:
            async with self._services.pool.connection(AUDIT_SECONDS) as conn:
                for action, detail in events:
                    await audit.write(
                        conn,
                        audit.Event(actor=by, action=action, target_kind="agent", target_id=target, detail=detail),
                    )
        except DATABASE_ERRORS as error:
            logger.warning(
                "A change of control of a terminal could not be audited: %s",
                error,
                extra={"action": "control_unlogged"},
            )
            return False
        return True

    # Keyboard messages

    async def _type(self, keys: Keys) -> None:
        """Send keys to the agent, or keep them until it reconnects; reject keys of a page without control."""
        link = self._hub.links.get(self.agent_id)
        if link is not None and not self._seen_agent:
            self._seen_agent, self._boot = True, link.boot
        refused = self._refusal(keys)
        if refused is None:
            added = self._pending.add(keys)
            if added is False:
                return  # the same message is under way
            if added is not True:
                refused = added
        if refused is not None:
            await self._send(KeysTaken(client_id=keys.client_id, seq=keys.seq, refused=refused))
            return
        self._hub.typing_pages[keys.client_id] = self
        if link is not None:  # else the keys are sent when the agent reconnects
            await link.send(keys)

    def _refusal(self, keys: Keys) -> KeysRejection | None:
        if (
            not self._may_control
            or keys.client_id != self._client_id
            or not self._terminal.control.holds(keys.client_id)
        ):
            return "not_in_control"
        return None if self._seen_agent else "offline"

    async def resize(self, message: Resize) -> None:
        """Set the pseudo-terminal's size to that of the controller's window, or of any operator's while there is no
        controller. The sizes of other windows are ignored."""
        link = self._hub.links.get(self.agent_id)
        if link is not None and self._may_resize:
            await link.send(message)

    async def request_redraw(self) -> None:
        """Have a full-screen program draw its screen again, since this viewer lacks the bytes that drew it."""
        await self._hub.redraw(self.agent_id, self._terminal)

    def keys_answered(self, message: KeysTaken) -> None:
        """The agent has answered a keyboard message of this page: pass the answer on to the viewer."""
        self._pending.answered(message.seq)
        self._answers.append(message)
        self._terminal.wake()

    def next_answer(self) -> KeysTaken | None:
        """The next answer to send to the viewer, if any."""
        return self._answers.popleft() if self._answers else None

    async def resend_keys(self, boot: UUID | None) -> None:
        """The agent has reconnected: send it the unanswered keyboard messages again; it types each once.

        They are rejected if the agent's program was restarted, since they were meant for the run before, or if the page
        has lost control.
        """
        restarted, self._boot = boot != self._boot, boot
        link = self._hub.links.get(self.agent_id)
        for keys in self._pending.all():
            refused = "restarted" if restarted else self._refusal(keys)
            if refused is not None:
                self._pending.answered(keys.seq)
                await self._send(KeysTaken(client_id=keys.client_id, seq=keys.seq, refused=refused))
            elif link is not None:
                await link.send(keys)
