"""The demo of `onsembl up --demo`: three real agents, each in a folder of its own, with something to watch, to approve,
to cancel and to read."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import psutil

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.agent.errors import AgentError
from onsembl.cli import logs
from onsembl.cli.server import demo_assistant
from onsembl.cli.server.ended import wait_until_ended
from onsembl.fleet.commands import CommandContent, send
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import AgentKind
from onsembl.sql import agents, audit, enrolment, refresh_tokens
from onsembl.sql.database import DATABASE_ERRORS, Connection, connect
from onsembl.sql.first_steps import DEMO_LABEL

ACTOR = audit.Actor("system", name="demo")
TOKEN_SECONDS = 60.0
"""Lifetime of an agent's one-time token, which is used at once."""
STOP_SECONDS = 20.0

SCRIPT = r"""
printf '\033[1mThis is the demo agent.\033[0m A shell in a folder of its own; send it a command below.\n\n'
printf 'Colours:  '
for n in 1 2 3 4 5 6; do printf '\033[3%dm███ \033[0m' $n; done; printf '\n          '
for n in $(seq 16 3 231); do printf '\033[48;5;%dm ' $n; done; printf '\033[0m\n\n'
for n in $(seq 0 4 100); do
    printf '\rProgress: [%-25s] %3d %%' "$(printf '%*s' $((n / 4)) '' | tr ' ' '#')" "$n"
    sleep 0.08
done
printf '\n\n'
if command -v top >/dev/null; then
    printf 'And now a full-screen program for a few seconds.\n'
    sleep 2
    printf '\033[?1049h'
    top -d 1 -n 5
    printf '\033[?1049l'
fi
printf '\n\033[32mReady.\033[0m Try: \033[1mls -la\033[0m, or \033[1mping -c 3 127.0.0.1\033[0m\n'
"""

BUILDS = r"""
n=0
while :; do
    n=$((n + 1))
    printf '\033[36m%s\033[0m build %d\n' "$(date +%H:%M:%S)" "$n"
    for step in fetch compile test package; do
        printf '  %-8s ' "$step"
        sleep 0.5
        printf '\033[32mok\033[0m\n'
    done
    sleep 3
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoAgent:
    """An agent of the demo. `prepare` makes the files of its working folder, and `commands` are sent when the demo
    starts for the first time. `arguments` are the options and arguments of `onsembl agent run`."""

    name: str
    kind: AgentKind
    labels: Sequence[str]
    prepare: Callable[[Path], None]
    arguments: Callable[[Path], Sequence[str]]
    commands: Sequence[CommandContent] = ()


def _write(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return write


FLEET = (
    DemoAgent(
        name="demo",
        kind=AgentKind.SHELL,
        labels=[DEMO_LABEL],
        prepare=_write(".demo.sh", SCRIPT),
        arguments=lambda folder: ("--startup-script", str(folder / ".demo.sh")),
    ),
    DemoAgent(
        name="demo-assistant",
        kind=AgentKind.ACP,
        labels=[DEMO_LABEL, "shop"],
        prepare=demo_assistant.make_shop,
        arguments=lambda folder: ("--", str(folder / demo_assistant.PROGRAM)),
        commands=[
            CommandContent(
                preset="Investigate", values={"what": "A discount of 10 % gives the goods away.", "history": False}
            ),
            CommandContent(text="Mend the discount, and run the tests.", conversation="latest"),
        ],
    ),
    DemoAgent(
        name="demo-builds",
        kind=AgentKind.SHELL,
        labels=[DEMO_LABEL, "ci"],
        prepare=_write("builds.sh", BUILDS),
        arguments=lambda _: (),
        commands=[
            CommandContent(text="sh builds.sh"),
            CommandContent(text="echo 'This waits until the builds are cancelled.'"),
        ],
    ),
)


class Demo:
    """The processes of the demo's agents: they start and stop with the server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, server: str, database_url: str) -> None:
        """Enrol the agents, or replace their credentials, and start them. Raises AgentError."""
        await asyncio.gather(*(self._start(agent, server, database_url) for agent in FLEET))

    async def _start(self, agent: DemoAgent, server: str, database_url: str) -> None:
        folder = self._folder / agent.name
        await asyncio.to_thread(agent.prepare, folder)
        await asyncio.to_thread(self._stop_leftover, agent)
        try:
            credentials = await _credentials(agent, server, database_url)
        except DATABASE_ERRORS as error:
            raise AgentError(f"The database has no answer for the agent {agent.name}: {str(error).strip()}") from error
        store.save(self._state / agent.name, credentials)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "onsembl.cli.main", "agent", "run", "--insecure", "--name", agent.name),
            *("--state-dir", str(self._state), "--cwd", str(folder), *agent.arguments(folder)),
            env=_environment(),
            start_new_session=True,
        )
        self._processes[agent.name] = process
        self._pid_file(agent.name).write_text(str(process.pid))

    @property
    def _state(self) -> Path:
        return self._folder / "agents"

    def _pid_file(self, name: str) -> Path:
        return self._folder / f"{name}.pid"

    def _stop_leftover(self, agent: DemoAgent) -> None:
        """Stop the agent of a server that was killed: it still runs and has locked the folder."""
        try:
            process = psutil.Process(int(self._pid_file(agent.name).read_text()))
            if str(self._state) in process.cmdline():
                process.terminate()
                if wait_until_ended([process], STOP_SECONDS):
                    raise AgentError(f"The agent {agent.name} of an earlier start does not stop.")
        except (FileNotFoundError, ValueError, psutil.Error):
            pass

    async def stop(self) -> None:
        """Stop the agents and their running commands."""
        await asyncio.gather(*(self._stop(name, process) for name, process in self._processes.items()))

    async def _stop(self, name: str, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        self._pid_file(name).unlink(missing_ok=True)


async def _credentials(agent: DemoAgent, server: str, database_url: str) -> store.Credentials:
    """New credentials at each start: the old ones may have expired, or belong to another database or address."""
    token = "one_" + secrets.token_urlsafe(32)
    async with await connect(database_url, role="onsembl_api") as conn:
        known = [row for row in await agents.list_agents(conn) if row["name"] == agent.name]
        if known:
            await refresh_tokens.add(conn, token, uuid4(), known[0]["id"], TOKEN_SECONDS, None)
        else:
            await enrolment.add_token(conn, token, agent.name, TOKEN_SECONDS, None)
    if known:
        return store.Credentials(
            server=server,
            agent_id=str(known[0]["id"]),
            name=agent.name,
            kind=agent.kind,
            access_token="",
            access_expires_at=0.0,
            refresh_token=token,
        )
    credentials = await enrol(server, token, agent.name, agent.kind)
    async with await connect(database_url, role="onsembl_api") as conn:
        await _begin(conn, agent, AgentId(UUID(credentials.agent_id)))
    return credentials


async def _begin(conn: Connection, agent: DemoAgent, agent_id: AgentId) -> None:
    """Give a new agent of the demo its labels and its first commands, which wait for its connection."""
    await agents.set_labels(conn, agent_id, agent.labels)
    detail = {"labels": [*agent.labels]}
    await audit.write(
        conn,
        audit.Event(actor=ACTOR, action="agent.labelled", target_kind="agent", target_id=str(agent_id), detail=detail),
    )
    for command in agent.commands:
        await send(conn, command, agent_id, ACTOR)


def _environment() -> dict[str, str]:
    """The variables that a shell needs, without the server's settings and secrets."""
    names = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "SHELL", *logs.SETTINGS)
    return {name: os.environ[name] for name in names if name in os.environ}
