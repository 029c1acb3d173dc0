"""The demo agent: a real agent of kind `shell`, in a folder of its own, that does something to look at."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from pathlib import Path

from onsembl.agent import credentials as store
from onsembl.agent.enrolment import enrol
from onsembl.protocol.states import AgentKind
from onsembl.sql.database import connect
from onsembl.sql.enrolment import add_token

NAME = "demo"

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
    """Runs beside the server and stops with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, server: str, database_url: str) -> None:
        """Enrol the first time; then run. Raises AgentError."""
        scratch = self._folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        script = self._folder / "demo.sh"
        script.write_text(SCRIPT)
        state = self._folder / "agents"
        if not (state / NAME / store.FILE_NAME).exists():
            await self._enrol(server, database_url, state)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "onsembl.cli.main", "agent", "run", "--name", NAME),
            *("--state-dir", str(state), "--cwd", str(scratch), "--startup-script", str(script)),
            env=_environment(),
            start_new_session=True,
        )

    async def _enrol(self, server: str, database_url: str, state: Path) -> None:
        token = "one_" + secrets.token_urlsafe(32)
        async with await connect(database_url, role="onsembl_api") as conn:
            await add_token(conn, token, NAME, 60.0, None)
        store.save(state / NAME, await enrol(server, token, NAME, AgentKind.SHELL))

    async def stop(self) -> None:
        """End it, and what it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


def _environment() -> dict[str, str]:
    """What a shell needs, and nothing of the server's."""
    names = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "SHELL")
    return {name: os.environ[name] for name in names if name in os.environ}
