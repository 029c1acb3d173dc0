"""Control of a terminal, and keys: one controller at a time, each key typed once. No I/O and no clock."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from uuid import UUID

from onsembl.protocol.keyboard_messages import Keys, KeysRejection, KeysTaken

GRACE_SECONDS = 15.0
"""A controller that loses its connection keeps control for this long."""
MAX_WAITING = 32
MAX_CLIENTS = 256
MAX_ANSWERS = 512
"""How many answers to one client are kept, to be given again; a client never has more keys under way."""
MAX_PENDING = 256
MAX_PENDING_CHARACTERS = 512 * 1024


@dataclass(frozen=True, slots=True)
class Client:
    """A page, and the name of its operator."""

    id: UUID
    name: str


@dataclass(slots=True)
class Control:
    """Who has control, and who waits for it. `version` grows with each change that viewers should see."""

    controller: Client | None = None
    waiting: list[Client] = field(default_factory=list[Client])
    version: int = 0
    _disconnected_at: float | None = None
    _connections: Counter[UUID] = field(default_factory=Counter[UUID])

    def holds(self, client_id: UUID) -> bool:
        """Whether this page has control."""
        return self.controller is not None and self.controller.id == client_id

    def request(self, client: Client) -> bool:
        """Give control to a page if it is free; otherwise the page waits. Return whether it has control now."""
        if self.controller is None or self.holds(client.id):
            self._give(client)
            return True
        if all(other.id != client.id for other in self.waiting) and len(self.waiting) < MAX_WAITING:
            self.waiting.append(client)
            self.version += 1
        return False

    def take(self, client: Client) -> Client | None:
        """Give control to a page at once; return the page that it was taken from."""
        before = None if self.holds(client.id) else self.controller
        self._give(client)
        return before

    def grant(self, giver: UUID, to: UUID) -> Client | None:
        """Pass control from `giver` to a page that waits; return that page, or None when this is not possible."""
        chosen = next((client for client in self.waiting if client.id == to), None)
        if not self.holds(giver) or chosen is None:
            return None
        self._give(chosen)
        return chosen

    def release(self, client_id: UUID) -> bool:
        """End a page's control or wait; return whether it had control, which then goes to the first page that waits."""
        held = self.holds(client_id)
        left = [client for client in self.waiting if client.id != client_id]
        if held:
            self.waiting = left
            self._next()
        elif len(left) < len(self.waiting):
            self.waiting = left
            self.version += 1
        return held

    def disconnected(self, client_id: UUID, now: float) -> None:
        """Note that a connection of a page ended.

        With its last connection, a page that waits is removed, and the controller keeps control for `GRACE_SECONDS`.
        """
        self._connections[client_id] -= 1
        if self._connections[client_id] > 0:
            return  # the page reconnected before its broken connection was given up
        del self._connections[client_id]
        if self.holds(client_id):
            self._disconnected_at = now
        else:
            self.release(client_id)

    def connected(self, client_id: UUID) -> None:
        """Note that a page has one more connection; its broken one may not be given up yet."""
        self._connections[client_id] += 1
        if self.holds(client_id):
            self._disconnected_at = None

    def expires_in(self, now: float) -> float | None:
        """The seconds that a disconnected controller has left to reconnect; None without such a controller."""
        return self._disconnected_at + GRACE_SECONDS - now if self._disconnected_at is not None else None

    def expire(self, now: float) -> Client | None:
        """End the control of a controller that did not reconnect in time; return that page, if there is one."""
        left = self.expires_in(now)
        if left is None or left > 0:
            return None
        lost = self.controller
        self._next()
        return lost

    def _next(self) -> None:
        if self.waiting:
            self._give(self.waiting[0])
        else:
            self.controller, self._disconnected_at = None, None
            self.version += 1

    def _give(self, client: Client) -> None:
        self.waiting = [other for other in self.waiting if other.id != client.id]
        self.controller, self._disconnected_at = client, None
        self.version += 1


class UnansweredKeys:
    """The keys of one page that the agent has not answered, in order; they are sent again after a reconnect."""

    def __init__(self) -> None:
        self._keys: deque[Keys] = deque()
        self._characters = 0
        self._last = 0

    def add(self, keys: Keys) -> bool | KeysRejection:
        """Whether these keys are new: False for known ones, `too_much` when too many keys wait for an answer."""
        if keys.seq <= self._last:
            return False
        if len(self._keys) >= MAX_PENDING or self._characters + len(keys.text) > MAX_PENDING_CHARACTERS:
            return "too_much"
        self._last = keys.seq
        self._keys.append(keys)
        self._characters += len(keys.text)
        return True

    def answered(self, seq: int) -> None:
        """Remove the keys up to this number, which the agent has answered."""
        while self._keys and self._keys[0].seq <= seq:
            self._characters -= len(self._keys.popleft().text)

    def all(self) -> list[Keys]:
        """All unanswered keys."""
        return list(self._keys)


class KeyDeduplicator:
    """The agent's side: which keys were typed, by page and number, and the answer to each."""

    def __init__(self) -> None:
        self._clients: OrderedDict[UUID, OrderedDict[int, KeysRejection | None]] = OrderedDict()

    def answer_to(self, keys: Keys) -> KeysTaken | None:
        """The answer to keys that came before; None for new keys."""
        answers = self._clients.get(keys.client_id)
        if not answers:
            return None
        newest = next(reversed(answers))
        if keys.seq > newest:
            return None
        # Keys that are older than all kept answers were answered: pages never have that many under way.
        return KeysTaken(client_id=keys.client_id, seq=keys.seq, refused=answers.get(keys.seq))

    def record(self, keys: Keys, rejected: KeysRejection | None) -> KeysTaken:
        """Record that new keys were typed, or `rejected`; return the answer."""
        answers = self._clients.setdefault(keys.client_id, OrderedDict())
        self._clients.move_to_end(keys.client_id)
        answers[keys.seq] = rejected
        if len(answers) > MAX_ANSWERS:
            answers.popitem(last=False)
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        return KeysTaken(client_id=keys.client_id, seq=keys.seq, refused=rejected)
