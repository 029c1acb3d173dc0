"""Runs `onsembl …` as a signed-in operator does, in a process of its own or in the test's process."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner
from support.control_center import clean_environment
from support.forked import ForkedProcess, Stream, fork_onsembl
from support.server import Account, Api

from onsembl.cli.main import main


def run_in_process(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, where its modules are imported already.

    It tests what the command does; other tests check how its process starts and exits. Nothing else in this process may
    run or write meanwhile.
    """
    unset = {name: None for name in os.environ if name not in environment}
    result = CliRunner().invoke(main, arguments, env=unset | dict(environment))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


class CommandLine:
    """The shell of one operator."""

    def __init__(self, api: Api, account: Account, folder: Path) -> None:
        self._environment = clean_environment(
            ONSEMBL_SERVER=api.url, ONSEMBL_TOKEN=account.access_token, XDG_STATE_HOME=str(folder)
        )

    async def start(self, *arguments: str, **streams: Stream) -> ForkedProcess:
        """Start a command with the given standard streams."""
        return await fork_onsembl(*arguments, env=self._environment, **streams)

    async def run(self, *arguments: str, code: int = 0, stdin: bytes = b"") -> tuple[str, str]:
        """Run a command that exits with `code`, and return its standard output and standard error."""
        with tempfile.TemporaryFile() as input_file, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            input_file.write(stdin)
            input_file.seek(0)
            process = await self.start(*arguments, stdin=input_file, stdout=out, stderr=err)
            try:
                exit_code = await process.wait()
            finally:
                process.kill()
            output = []
            for file in (out, err):
                file.seek(0)
                output.append(file.read().decode())
        assert exit_code == code, output
        return output[0], output[1]
