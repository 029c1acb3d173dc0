"""The demo agent of `onsembl up --demo`: a real agent of kind `shell`, in a folder of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from pathlib import Path
from uuid import uuid4

import psutil

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.agent.errors import AgentError
from onsembl.cli import logs
from onsembl.protocol.states import AgentKind
from onsembl.sql import agents, enrolment, refresh_tokens
from onsembl.sql.database import connect

NAME = "demo"
TOKEN_SECONDS = 60.0
"""Lifetime of its one-time token, which is used at once."""
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


class DemoAgent:
    """The demo agent's process: starts and stops with the server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = folder / "agents"
        self._pid_file = folder / "pid"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, server: str, database_url: str) -> None:
        """Enrol the demo agent, or replace its credentials, and start it. Raises AgentError."""
        scratch = self._folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        script = self._folder / "demo.sh"
        script.write_text(SCRIPT)
        await asyncio.to_thread(self._stop_leftover)
        store.save(self._state / NAME, await _credentials(server, database_url))
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "onsembl.cli.main", "agent", "run", "--insecure", "--name", NAME),
            *("--state-dir", str(self._state), "--cwd", str(scratch), "--startup-script", str(script)),
            env=_environment(),
            start_new_session=True,
        )
        self._pid_file.write_text(str(self._process.pid))

    def _stop_leftover(self) -> None:
        """Stop the demo agent of a server that was killed: it still runs and has locked the folder."""
        try:
            process = psutil.Process(int(self._pid_file.read_text()))
            if str(self._state) in process.cmdline():
                process.terminate()
                process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired as error:
            raise AgentError("The demo agent of an earlier start does not stop.") from error
        except (FileNotFoundError, ValueError, psutil.Error):
            pass

    async def stop(self) -> None:
        """Stop the agent and its running command."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()
        self._pid_file.unlink(missing_ok=True)


async def _credentials(server: str, database_url: str) -> store.Credentials:
    """New credentials at each start: the old ones may have expired, or belong to another database or address."""
    token = "one_" + secrets.token_urlsafe(32)
    async with await connect(database_url, role="onsembl_api") as conn:
        known = [agent for agent in await agents.list_agents(conn) if agent["name"] == NAME]
        if known:
            await refresh_tokens.add(conn, token, uuid4(), known[0]["id"], TOKEN_SECONDS, None)
        else:
            await enrolment.add_token(conn, token, NAME, TOKEN_SECONDS, None)
    if not known:
        return await enrol(server, token, NAME, AgentKind.SHELL)
    return store.Credentials(
        server=server,
        agent_id=str(known[0]["id"]),
        name=NAME,
        kind=AgentKind.SHELL,
        access_token="",
        access_expires_at=0.0,
        refresh_token=token,
    )


def _environment() -> dict[str, str]:
    """The variables that a shell needs, without the server's settings and secrets."""
    names = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "SHELL", *logs.SETTINGS)
    return {name: os.environ[name] for name in names if name in os.environ}
