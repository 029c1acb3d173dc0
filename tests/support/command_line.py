"""`onsembl …`: as an operator starts it, signed in by a token in the environment; and in the test's own process."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner
from support.control_center import clean_environment
from support.forked import fork_onsembl
from support.server import Account, Api

from onsembl.cli.main import main


def run_in_process(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, in which its modules are imported once: for what it does. How a process of it
    starts and ends, other tests see. Nothing else of this process may run or write meanwhile."""
    foreign = {name: None for name in os.environ if name not in environment}
    result = CliRunner().invoke(main, arguments, env=foreign | dict(environment))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


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
