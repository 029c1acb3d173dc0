"""Who types into a terminal, and what was typed: one controller at a time, each key once. No I/O and no clock."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from uuid import UUID

from onsembl.protocol.keyboard_messages import Keys, KeysRejection, KeysTaken

GRACE_SECONDS = 15.0
"""A controller whose connection is lost keeps the terminal for so long."""
MAX_WAITING = 32
MAX_CLIENTS = 256
REMEMBERED = 512
"""Answers of one client that are given again; more are never under way."""
MAX_PENDING = 256
MAX_PENDING_CHARACTERS = 512 * 1024


@dataclass(frozen=True, slots=True)
class Client:
    """A page, and whose it is."""

    id: UUID
    name: str


@dataclass(slots=True)
class Control:
    """Who types, and who waits to. `version` grows with each change that others should see."""

    controller: Client | None = None
    waiting: list[Client] = field(default_factory=list[Client])
    version: int = 0
    _gone_at: float | None = None
    _connections: Counter[UUID] = field(default_factory=Counter[UUID])

    def holds(self, client_id: UUID) -> bool:
        """Whether this page types."""
        return self.controller is not None and self.controller.id == client_id

    def request(self, client: Client) -> bool:
        """A page wants to type; whether it does now. Otherwise it waits its turn."""
        if self.controller is None or self.holds(client.id):
            self._give(client)
            return True
        if all(other.id != client.id for other in self.waiting) and len(self.waiting) < MAX_WAITING:
            self.waiting.append(client)
            self.version += 1
        return False

    def take(self, client: Client) -> Client | None:
        """A page takes the terminal over; whom it was taken from."""
        before = None if self.holds(client.id) else self.controller
        self._give(client)
        return before

    def grant(self, giver: UUID, to: UUID) -> Client | None:
        """The controller gives the terminal to one that waits; to whom, None when that is not possible."""
        chosen = next((client for client in self.waiting if client.id == to), None)
        if not self.holds(giver) or chosen is None:
            return None
        self._give(chosen)
        return chosen

    def release(self, client_id: UUID) -> bool:
        """A page types or waits no more; whether it typed. The first that waits is next."""
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
        """A connection of a page is over. With its last one: if it waited it is forgotten, the controller has a while
        to come back."""
        self._connections[client_id] -= 1
        if self._connections[client_id] > 0:
            return  # it came back before the broken one was given up
        del self._connections[client_id]
        if self.holds(client_id):
            self._gone_at = now
        else:
            self.release(client_id)

    def connected(self, client_id: UUID) -> None:
        """A page has a connection: another one, while that which is broken seems to be there still."""
        self._connections[client_id] += 1
        if self.holds(client_id):
            self._gone_at = None

    def expires_in(self, now: float) -> float | None:
        """The seconds that the controller has left to come back; None when it is there, or nobody types."""
        return self._gone_at + GRACE_SECONDS - now if self._gone_at is not None else None

    def expire(self, now: float) -> Client | None:
        """Free the terminal of a controller that did not come back; who that was."""
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
            self.controller, self._gone_at = None, None
            self.version += 1

    def _give(self, client: Client) -> None:
        self.waiting = [other for other in self.waiting if other.id != client.id]
        self.controller, self._gone_at = client, None
        self.version += 1


class UnansweredKeys:
    """What one page has typed and the agent has not answered yet, in order: it comes again over the next connection."""

    def __init__(self) -> None:
        self._keys: deque[Keys] = deque()
        self._characters = 0
        self._last = 0

    def add(self, keys: Keys) -> bool | KeysRejection:
        """Whether these are new; False for what came before, `too_much` when too many wait for an answer."""
        if keys.seq <= self._last:
            return False
        if len(self._keys) >= MAX_PENDING or self._characters + len(keys.text) > MAX_PENDING_CHARACTERS:
            return "too_much"
        self._last = keys.seq
        self._keys.append(keys)
        self._characters += len(keys.text)
        return True

    def answered(self, seq: int) -> None:
        """The agent has answered up to this number."""
        while self._keys and self._keys[0].seq <= seq:
            self._characters -= len(self._keys.popleft().text)

    def all(self) -> list[Keys]:
        """All that is not answered."""
        return list(self._keys)


class KeyDeduplicator:
    """The agent's side: which keys were typed, by page and number, and what was answered."""

    def __init__(self) -> None:
        self._clients: OrderedDict[UUID, OrderedDict[int, KeysRejection | None]] = OrderedDict()

    def answer_to(self, keys: Keys) -> KeysTaken | None:
        """The answer to keys that came before; None for new ones."""
        answers = self._clients.get(keys.client_id)
        if not answers:
            return None
        newest = next(reversed(answers))
        if keys.seq > newest:
            return None
        # One that is older than all that is remembered was answered, for pages do not have so many under way.
        return KeysTaken(client_id=keys.client_id, seq=keys.seq, refused=answers.get(keys.seq))

    def record(self, keys: Keys, refused: KeysRejection | None) -> KeysTaken:
        """New keys were typed, or refused; the answer."""
        answers = self._clients.setdefault(keys.client_id, OrderedDict())
        self._clients.move_to_end(keys.client_id)
        answers[keys.seq] = refused
        if len(answers) > REMEMBERED:
            answers.popitem(last=False)
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        return KeysTaken(client_id=keys.client_id, seq=keys.seq, refused=refused)
