"""Runs the agent's runner in a process of its own, with pipes in the place of the server.

    python -m support.runner_process FOLDER KIND ADOPT TIMES

Commands are JSON lines on standard input, reports are JSON lines on standard output. The terminal's bytes go to
FOLDER/terminal.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
from support.attached import no_file

from onsembl.agent.drivers.attached_files import AttachedFiles
from onsembl.agent.errors import CannotWrite
from onsembl.agent.link.journal import Journal
from onsembl.agent.link.outbox import Outbox
from onsembl.agent.mcp.gateway import ToolGateway
from onsembl.agent.process.process import ProcessContext
from onsembl.agent.process.reaper import Reaper
from onsembl.agent.program import DRIVERS
from onsembl.agent.requests import Requests
from onsembl.agent.runner import Runner
from onsembl.agent.startup import StartupScript
from onsembl.agent.terminal import AgentTerminal
from onsembl.protocol.limits import CommandLimits
from onsembl.protocol.messages import Answer, Offer, Steer, encode
from onsembl.protocol.states import AgentKind
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.protocol.turn_messages import TurnSettings


def main(arguments: list[str]) -> None:
    """Run with these arguments of the command line until standard input ends."""
    folder, kind, adopt, times = arguments
    asyncio.run(_run(Path(folder), kind, adopt == "adopt", StopTimeouts(**json.loads(times))))


async def _run(folder: Path, kind: str, adopt: bool, timeouts: StopTimeouts) -> None:
    outbox = Outbox(folder / "spool" / str(os.getpid()), uuid4())
    terminal = AgentTerminal(80, 24, outbox)
    shown = (folder / "terminal").open("ab", buffering=0)

    def take() -> None:
        while (frame := outbox.next_frame(65536)) is not None:
            shown.write(frame[1])
            terminal.acknowledged(outbox.sent)

    terminal.on_output = take
    reaper = Reaper(adopt=adopt)
    assert reaper.adopts == adopt
    journal = Journal(folder)
    requests = Requests()
    requests.send = lambda message: print(encode(message), flush=True)
    tools = ToolGateway(folder)
    await tools.start()
    context = ProcessContext(folder, terminal, reaper, driver_folder=folder / "driver", requests=requests, tools=tools)
    driver = DRIVERS[AgentKind(kind)]()
    script = folder / "startup.sh"
    startup = StartupScript(script if script.exists() else None, f"startup in {folder}", context)
    files = AttachedFiles(folder / "attachments", no_file)
    runner = Runner(
        driver, context, journal, timeouts, lambda message: print(encode(message), flush=True), startup, files
    )
    await runner.clean_up_earlier_run()
    for end in journal.ended.values():
        print(encode(end), flush=True)
    startup.start()
    reader = asyncio.StreamReader(limit=2**20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        match json.loads(line):
            case ["offer", command_id, text, *limits]:
                offer = Offer(command_id=UUID(command_id), text=text)
                if limits:
                    told = {
                        name: limits[0].pop(name) for name in ("conversation", "permission_mode") if name in limits[0]
                    }
                    turn = msgspec.convert(told, TurnSettings) if told else None
                    offer = msgspec.structs.replace(offer, limits=CommandLimits(**limits[0]), turn=turn)
                try:
                    runner.offer(offer)
                except CannotWrite as error:
                    print(json.dumps({"type": "cannot_write", "error": str(error)}), flush=True)
            case ["cancel", command_id, *limit]:
                runner.cancel(UUID(command_id), *limit)
            case ["steer", command_id, steer_id, text]:
                runner.steer(Steer(command_id=UUID(command_id), steer_id=UUID(steer_id), text=text))
            case ["welcome", takes]:
                for message in runner.requests_after_welcome(server_takes=takes):
                    print(encode(message), flush=True)
            case ["answer", answer]:
                runner.answer(msgspec.convert(answer, Answer))
            case ["resize", columns, rows]:
                runner.resize(columns, rows)
            case ["recorded", command_id]:
                journal.recorded(UUID(command_id))
            case command:
                raise AssertionError(command)
    await runner.shut_down()
    await tools.close()
    journal.close()
    outbox.close()
    reaper.close()
    shown.close()


if __name__ == "__main__":
    main(sys.argv[1:])
