"""`onsembl …` as an operator starts it, signed in by a token in the environment."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from support.control_center import clean_environment
from support.server import Account, Api


class CommandLine:
    """One operator's shell."""

    def __init__(self, api: Api, account: Account, folder: Path) -> None:
        self._environment = clean_environment(
            ONSEMBL_SERVER=api.url, ONSEMBL_TOKEN=account.access_token, XDG_STATE_HOME=str(folder)
        )

    async def run(self, *arguments: str, code: int = 0, stdin: bytes = b"") -> tuple[str, str]:
        """What it says on standard output and standard error; it ends with this code."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "onsembl.cli.main", *arguments),
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin)
        assert process.returncode == code, (out, err)
        return out.decode(), err.decode()
