"""`onsembl …` as an operator starts it, signed in by a token in the environment."""

from __future__ import annotations

import tempfile
from pathlib import Path

from support.control_center import clean_environment
from support.forked import fork_onsembl
from support.server import Account, Api


class CommandLine:
    """One operator's shell."""

    def __init__(self, api: Api, account: Account, folder: Path) -> None:
        self._environment = clean_environment(
            ONSEMBL_SERVER=api.url, ONSEMBL_TOKEN=account.access_token, XDG_STATE_HOME=str(folder)
        )

    async def run(self, *arguments: str, code: int = 0, stdin: bytes = b"") -> tuple[str, str]:
        """What it says on standard output and standard error; it ends with this code."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            process = await fork_onsembl(*arguments, env=self._environment, stdin=given, stdout=out, stderr=err)
            try:
                ended = await process.wait()
            finally:
                process.kill()
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode())
        assert ended == code, said
        return said[0], said[1]
