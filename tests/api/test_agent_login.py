"""`onsembl agent login` and `logout`, as a person uses them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from support.agents import until
from support.forked import PIPE, STDOUT, ForkedProcess, fork_onsembl
from support.frames import HELLO_TEXT

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.device_flow import PollInterval
from onsembl.agent.errors import AgentError
from onsembl.api.auth import device_flow
from onsembl.api.routes import devices
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker


def test_the_poll_interval_follows_the_servers_answers():
    """`slow_down` adds five seconds to the interval (RFC 8628 §3.5); after a rejection or an expiry there is no next
    poll."""
    interval = PollInterval(5.0)
    assert [interval.after(error) for error in ("authorization_pending", "slow_down", "authorization_pending")] == [
        5,
        10,
        10,
    ]
    with pytest.raises(AgentError, match="rejected"):
        interval.after("access_denied")
    with pytest.raises(AgentError, match="expired"):
        interval.after("expired_token")


@pytest.fixture
async def logging_in(api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Start `onsembl agent login`, which asks each second; yield the process and the output that it prints before it
    waits for the approval."""
    for module in (devices, device_flow):
        monkeypatch.setattr(module, "POLL_SECONDS", 1)

    started: list[ForkedProcess] = []

    async def start(name: str = "one") -> tuple[ForkedProcess, str]:
        process = await fork_onsembl(
            *("agent", "login", "--server", api.url, "--name", name, "--kind", "shell", "--state-dir", str(tmp_path)),
            stdout=PIPE,
            stderr=STDOUT,
            env={"PATH": "/usr/bin:/bin"},
        )
        started.append(process)
        assert process.stdout is not None
        said = ""
        async with asyncio.timeout(60):
            while "Waiting" not in said:
                line = await process.stdout.readline()
                assert line, said
                said += line.decode()
        return process, said

    yield start
    for process in started:
        process.kill()
        await process.communicate()


async def decide(api, said: str, verb: str) -> None:
    headers = (await api.operator()).headers
    code = re.search(r"enter\s+(\S+)", said)[1]
    request = (await api.http.get(f"/v1/device/requests/{code}", headers=headers)).json()
    answer = await api.http.post(f"/v1/device/requests/{request['id']}/{verb}", json={}, headers=headers)
    assert answer.status_code == 200, answer.text


async def test_a_machine_is_let_in_by_its_code(api, logging_in, tmp_path):
    """The login shows the code; after an admin's approval the credentials are stored, readable by their owner only."""
    process, said = await logging_in()
    assert f"{api.url}/#/approve" in said
    await decide(api, said, "approve")
    rest = await process.communicate()
    assert process.returncode == 0, rest
    assert b"Enrolled as one. Start it with: onsembl agent run --name one" in rest
    held = store.load(tmp_path / "one")
    assert (held.name, held.kind, held.server) == ("one", "shell", api.url)
    assert (tmp_path / "one" / store.FILE_NAME).stat().st_mode & 0o777 == 0o600
    async with api.agent_socket(held) as socket:  # type: ignore[arg-type]
        await socket.send(HELLO_TEXT)
        await socket.recv()


async def test_a_refusal_is_told(api, logging_in, tmp_path):
    """A rejected login prints the rejection in one sentence and stores no credentials."""
    process, said = await logging_in()
    await decide(api, said, "refuse")
    rest = await process.communicate()
    assert (process.returncode, "An operator has rejected this agent." in rest.decode()) == (1, True)
    assert not (tmp_path / "one" / store.FILE_NAME).exists()


async def test_ctrl_c_gives_up(logging_in):
    """Ctrl+C ends the login without a traceback."""
    process, _ = await logging_in()
    process.send_signal(2)
    rest = await process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in rest.decode()


async def test_logout_ends_everything(api, logging_in, tmp_path):
    """Logout ends the connection, revokes the tokens, deletes the credentials file and is in the audit log."""
    process, said = await logging_in()
    await decide(api, said, "approve")
    await process.communicate()
    held = store.load(tmp_path / "one")
    logout = await fork_onsembl("agent", "logout", "--name", "one", "--state-dir", str(tmp_path))
    assert await logout.wait() == 0
    assert not (tmp_path / "one" / store.FILE_NAME).exists()
    refresh = {"Authorization": f"Bearer {held.refresh_token}"}
    assert (await api.http.post("/v1/agents/token", headers=refresh)).status_code == 401

    async def noted() -> bool:
        async with await connect(api.database_url) as conn:
            cursor = await conn.execute("select from audit where action = 'agent.logged_out'")
            return await cursor.fetchone() is not None

    await until(noted, "the log")


async def test_logout_erases_also_when_the_server_is_away(tmp_path):
    """Logout deletes the credentials while the server is down, and prints that an admin has to disable the agent."""
    store.save(
        tmp_path / "one",
        store.Credentials(
            server="http://127.0.0.1:9",
            agent_id="x",
            name="one",
            kind="shell",
            access_token="a",
            access_expires_at=0,
            refresh_token="r",
        ),
    )
    logout = await fork_onsembl(
        *("agent", "logout", "--name", "one", "--state-dir", str(tmp_path)), stdout=PIPE, stderr=STDOUT
    )
    said = await logout.communicate()
    assert logout.returncode == 1
    assert "cannot be reached" in said.decode() and "disable the agent" in said.decode()
    assert not (tmp_path / "one" / store.FILE_NAME).exists()
