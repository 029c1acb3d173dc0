"""A host at the REST API, as `onsembl agent host` speaks to it, which starts no program."""

from __future__ import annotations

from typing import Any

import httpx
from support.server import Api

OFFER = {"kinds": ["shell", "claude"], "folders": ["/work"], "max_agents": 4, "machine": "m", "platform": "p"}


class SimulatedHost:
    """One run of an enrolled host. `epoch` is that of its connection."""

    def __init__(self, api: Api, id: str, secret: str) -> None:
        self._api, self.id, self.secret, self.epoch = api, id, secret, 0

    @classmethod
    async def enrolled(cls, api: Api, name: str = "machine") -> SimulatedHost:
        """A new host, which is not connected."""
        headers = {"Authorization": f"Bearer {await api.enrolment_token()}"}
        answer = await api.http.post("/v1/hosts/enrol", json={"name": name}, headers=headers)
        assert answer.status_code == 201, answer.text
        return cls(api, answer.json()["host_id"], answer.json()["secret"])

    async def connect(self) -> SimulatedHost:
        """Connect with an offer; an earlier connection is over."""
        self.epoch = (await self.ask("connection", OFFER)).json()["epoch"]
        return self

    async def ask(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """The answer to a request with the host's secret."""
        headers = {"Authorization": f"Bearer {self.secret}"}
        return await self._api.http.post(f"/v1/host/{path}", json=body, headers=headers)

    async def poll(self, **fields: Any) -> httpx.Response:
        return await self.ask("requests", {"epoch": self.epoch, "running": 0, **fields})

    async def enrol(self, start_id: str) -> httpx.Response:
        return await self.ask(f"requests/{start_id}/enrol", {"epoch": self.epoch})

    async def report(self, start_id: str, state: str, reason: str = "") -> httpx.Response:
        body = {"epoch": self.epoch, "state": state, "reason": reason}
        return await self.ask(f"requests/{start_id}/outcome", body)

    async def next_start(self) -> dict[str, Any]:
        """The next request."""
        while not (starts := (await self.poll()).json()["starts"]):
            pass
        return starts[0]

    async def start_all(self) -> None:
        """Enrol the agent of each request, and say that it is started, until cancelled."""
        while True:
            start = await self.next_start()
            state = "started" if (await self.enrol(start["id"])).is_success else "refused"
            await self.report(start["id"], state)
