"""`onsembl attach`: an agent's terminal in one's own."""

from __future__ import annotations

import asyncio
import codecs
import os
import signal
import sys
import termios
import tty
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import click
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from onsembl.cli.client.options import server_option
from onsembl.cli.client.rest_client import OperatorClient, ServerUnavailable
from onsembl.cli.errors import CliError
from onsembl.cli.output import print_line
from onsembl.protocol.backoff import Backoff
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.keyboard_messages import MAX_KEYS, Controlled, KeysTaken, ReleaseControl, TakeControl
from onsembl.protocol.messages import (
    TERMINAL_SUBPROTOCOL,
    Attach,
    Attached,
    Gap,
    Message,
    Ping,
    Pong,
    Resize,
    StreamStarted,
    Token,
    decode_from_terminal,
    encode,
)
from onsembl.protocol.passive_output import PassiveOutput
from onsembl.protocol.typist import Typist
from onsembl.protocol.visible_text import visible_lines

CONNECT_SECONDS = 15.0
KEEPALIVE_SECONDS = 20.0
TOKEN_SECONDS = 30.0
"""How often the access token is looked at: a renewed one is sent before the old one expires."""
LAST_KEYS_SECONDS = 2.0
"""How long a detach waits for the agent's answer to the last keys."""
RESET = (
    b"\x1b7\x1b[?1049l\x1b[r\x1b8\x1b[?25h\x1b[?7h\x1b[?1l\x1b>"
    b"\x1b[?9;1000;1002;1003;1004;1005;1006;1015;1016l\x1b[?2004l\x1b(B\x1b[0m"
)
"""Sets the usual modes of a terminal, whatever the program has set."""
CLEAR = b"\x1b[H\x1b[2J"
NOBODY = "nobody"
PERMANENT = frozenset(code for code in CloseCode if code.is_permanent)
REFUSED = {
    "not_in_control": "another window controls the terminal",
    "offline": "the agent is offline",
    "restarted": "the agent was restarted",
    "nothing_runs": "no command is running",
    "no_terminal": "this command does not read the keyboard",
    "line_too_long": "the program reads line by line, and a line has more than 4,095 bytes",
    "too_much": "the program has not read the earlier input yet",
}


class Key(click.ParamType[str]):
    """A key with Ctrl, as `ctrl-]`; its value is the key's byte."""

    name = "key"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = value.lower().removeprefix("ctrl-").removeprefix("c-").removeprefix("^")
        if len(text) != 1 or text == value.lower() or not "@" < text.upper() <= "_":
            self.fail(f"{value!r} is no key with Ctrl; write it as ctrl-] or ctrl-a.", param, ctx)
        return chr(ord(text.upper()) & 0x1F)


@click.command()
@click.argument("name")
@click.option("--watch", is_flag=True, help="Only watch: nothing is typed, and nobody's control is asked for.")
@click.option("--take-over", is_flag=True, help="Take control at once, also from another window.")
@click.option("--detach-key", type=Key(), default="ctrl-]", show_default=True, help="The key that detaches.")
@server_option
def attach(name: str, watch: bool, take_over: bool, detach_key: str, server: str | None) -> None:
    """Show the terminal of agent NAME in this one, and type into it. Needs `onsembl login`.

    The terminal takes this window's size while this window has control. While another window has it, this one watches:
    `t` asks for control, `T` pressed twice takes it over.
    """
    with OperatorClient(server) as client:
        agent_id = client.agent_id(name)
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise CliError("`onsembl attach` needs a terminal for its input and its output.")
        window = Window(client, UUID(agent_id), name, watch=watch, take_over=take_over, detach_key=detach_key)
        with _raw(sys.stdin.fileno(), sys.stdout.fileno()):
            code = asyncio.run(window.run())
    print_line(f"Detached from {name}.")
    if code:
        sys.exit(code)


@contextmanager
def _raw(keyboard: int, screen: int) -> Generator[None]:
    """Pass each key on as it is pressed; restore the terminal's settings and modes in any case."""
    before = termios.tcgetattr(keyboard)
    try:
        tty.setraw(keyboard, termios.TCSADRAIN)  # keys that were typed already are kept
        yield
    finally:
        try:
            os.write(screen, RESET + b"\r\n")
        finally:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


class Window:
    """One agent's terminal in this one, over any number of connections."""

    def __init__(
        self, client: OperatorClient, agent_id: UUID, name: str, *, watch: bool, take_over: bool, detach_key: str
    ) -> None:
        self._client = client
        self._url = client.server.replace("http", "ws", 1) + f"/v1/agents/{agent_id}/terminal"
        self._name = visible_lines(name)
        self._watch, self._take_over = watch, take_over
        self._detach_key = detach_key
        self._id = uuid4()
        self._typist = Typist(self._id)
        self._keyboard, self._screen = sys.stdin.fileno(), sys.stdout.fileno()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._output = PassiveOutput()
        self._stream_id: UUID | None = None
        self._offset = 0
        self._token = ""
        self._socket: ClientConnection | None = None
        self._mine = self._armed = self._resends = False
        self._early: str | None = None if watch else ""
        """Keys that were typed before the server has said who has control; None afterwards."""
        self._told = ""
        """Who has control, as the last notice said."""
        self._sending: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[int]

    async def run(self) -> int:
        """Stay attached until the detach key, the end of the input or a signal. Return the exit code.

        Raises CliError."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(number, self._end, 128 + number)
        loop.add_signal_handler(signal.SIGWINCH, self._resize)
        loop.add_reader(self._keyboard, self._read_keys)
        tasks = [asyncio.create_task(self._stay()), asyncio.create_task(self._renew())]
        try:
            done, _ = await asyncio.wait([*tasks, self._ended], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._leave()
            return self._ended.result()
        finally:
            loop.remove_reader(self._keyboard)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    async def _leave(self) -> None:
        """Release control once the agent has the last keys."""
        try:
            async with asyncio.timeout(LAST_KEYS_SECONDS):
                while self._sending:
                    await asyncio.wait(self._sending)
                if self._socket is not None and self._mine:
                    await self._socket.send(encode(ReleaseControl()))
                    await self._socket.close()
        except (TimeoutError, ConnectionClosed):
            return

    # The connection

    async def _stay(self) -> None:
        backoff = Backoff(cap=10.0)
        while True:
            try:
                self._token = await asyncio.to_thread(self._client.access_token)
                async with connect(
                    self._url,
                    subprotocols=[Subprotocol(TERMINAL_SUBPROTOCOL)],
                    max_size=None,
                    open_timeout=CONNECT_SECONDS,
                    ping_interval=KEEPALIVE_SECONDS,
                    ping_timeout=KEEPALIVE_SECONDS,
                ) as socket:
                    await self._follow(socket, backoff)
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd is not None else CloseCode.HEARTBEAT_LOST
                why = visible_lines(closed.rcvd.reason) if closed.rcvd is not None else ""
                if code in PERMANENT:
                    raise CliError(why or f"The server closed the connection with code {code}.") from closed
                await self._notice(f"{why.rstrip('.') or 'connection lost'}; reconnecting")
            except (OSError, TimeoutError, InvalidHandshake, ServerUnavailable) as error:
                await self._notice(f"not connected ({visible_lines(str(error)) or type(error).__name__}); retrying")
            finally:
                self._socket = None  # control is kept for a while: keys that are typed meanwhile wait
            await asyncio.sleep(backoff.next_delay())

    async def _follow(self, socket: ClientConnection, backoff: Backoff) -> None:
        attach = Attach(
            access_token=self._token,
            client_id=self._id,
            stream_id=self._stream_id,
            offset=self._offset if self._stream_id is not None else None,
        )
        await socket.send(encode(attach))
        while True:
            frame = await socket.recv()
            if isinstance(frame, bytes):
                self._offset += len(frame)
                await self._write(self._output.feed(frame))
                continue
            message = decode_from_terminal(frame)
            match message:
                case Attached():
                    backoff.reset()
                    self._socket, self._told = socket, ""
                    self._resends = True
                    await self._begin(message)
                case StreamStarted():
                    self._stream_id, self._offset = message.stream_id, message.offset
                    await self._write(RESET + CLEAR)
                    self._resize()
                case Gap():
                    self._offset = message.offset
                    await self._write(RESET)
                    await self._notice(f"{message.missing} bytes of output are missing here")
                    await self._write(message.modes.encode())
                case Controlled():
                    await self._controlled(message)
                case KeysTaken():
                    for keys in self._typist.answered(message):
                        self._send(keys)
                    if message.refused is not None:
                        await self._notice(f"not typed: {REFUSED[message.refused]}")
                case Ping():
                    self._send(Pong())
                case _:
                    pass

    async def _begin(self, attached: Attached) -> None:
        self._stream_id, self._offset = attached.stream_id, attached.offset
        if attached.mode == "exact":
            return
        self._output = PassiveOutput()
        await self._write(RESET if attached.mode == "gap" else RESET + CLEAR)
        if attached.mode == "gap":
            await self._notice("output is missing here")
        await self._write(attached.modes.encode())

    async def _renew(self) -> None:
        """Send the access token again when the session has renewed it."""
        while True:
            await asyncio.sleep(TOKEN_SECONDS)
            try:
                token = await asyncio.to_thread(self._client.access_token)
            except ServerUnavailable:
                continue  # the old token still holds for a while
            if token != self._token and self._socket is not None:
                self._token = token
                self._send(Token(access_token=token))

    def _send(self, message: Message) -> None:
        """Send a message over the present connection, in order; keys that are lost with it are sent over the next."""
        if self._socket is not None:
            task = asyncio.create_task(_sent(self._socket.send(encode(message))))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    # Control

    async def _controlled(self, message: Controlled) -> None:
        controller = message.controller
        mine = controller is not None and controller.client_id == self._id
        self._mine = mine
        if self._resends and controller is not None:
            self._resends = False  # if nobody had control, it is taken first
            for keys in self._typist.unanswered:
                self._send(keys)
        if mine:
            if self._told not in ("", NOBODY):
                await self._notice("you control this terminal")
            self._told = ""
            self._resize()
            if self._early:
                for keys in self._typist.type(self._early):
                    self._send(keys)
            self._early = None
            return
        if self._watch:
            return
        if controller is None:
            if self._told == "":
                self._send(TakeControl(client_id=self._id))
                self._told = NOBODY
            return
        if self._take_over:
            self._take_over = False
            self._send(TakeControl(client_id=self._id, from_another=True))
            return
        self._early = None
        name = visible_lines(controller.name)
        if name != self._told:
            self._told = name
            await self._notice(f"{name} controls this terminal; t asks for control, T twice takes it over")

    def _resize(self) -> None:
        if self._mine:
            size = os.get_terminal_size(self._screen)
            self._send(Resize(columns=max(size.columns, 2), rows=max(size.lines, 2)))

    # Keys

    def _read_keys(self) -> None:
        try:
            data = os.read(self._keyboard, 65_536)
        except OSError:
            data = b""
        typed, detaches, _ = data.partition(self._detach_key.encode())
        text = self._decoder.decode(typed)
        if self._early is not None:
            self._early = (self._early + text)[:MAX_KEYS]
        elif self._mine:
            for keys in self._typist.type(text) if text else ():
                self._send(keys)
        elif not self._watch and self._socket is not None:
            self._ask(text)
        if detaches or not data:
            self._end(0)

    def _ask(self, text: str) -> None:
        """Keys of a window that only watches: `t` asks for control, `T` pressed twice takes it over."""
        for key in text:
            if key == "T" and self._armed:
                self._send(TakeControl(client_id=self._id, from_another=True))
            elif key in "tT":
                self._send(TakeControl(client_id=self._id))
            self._armed = key == "T" and not self._armed

    # The screen

    async def _notice(self, text: str) -> None:
        await self._write(f"\r\n\x1b[7m {self._name}: {text} \x1b[0m\r\n".encode())

    async def _write(self, data: bytes) -> None:
        if data:
            await asyncio.to_thread(_write_all, self._screen, data)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


async def _sent(sending: Coroutine[Any, Any, None]) -> None:
    try:
        await sending
    except ConnectionClosed:
        return  # the reader of the connection reports its end
