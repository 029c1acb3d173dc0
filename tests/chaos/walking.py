"""What programs that stand for coding CLIs have in common: they remember, and a turn of theirs stays at one point until
the test lets it go on.

The prompt is the name of the turn, and the point. There the program writes its process id to the file NAME.at in the
folder STAGES, and waits for NAME.go. A conversation has its prompts in a file of the program.
"""

from __future__ import annotations

import json
import os
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path

STAGES = Path(os.environ["STAGES"])


def tell(**line: object) -> None:
    """Write a line."""
    print(json.dumps(line), flush=True)


def transcript_of(conversation: str) -> Path:
    """The prompts of a conversation, of a program that keeps them where it likes."""
    return STAGES / "conversations" / conversation


class WalkingCli(ABC):
    """A program that walks through a turn. Each method tells the agent one thing, in the protocol of the CLI."""

    name = ""
    """Of the turn."""

    def walk(self, prompt: str, transcript: Path) -> None:
        """Run the turn of this prompt, in the conversation that the transcript has."""
        self.name, point = prompt.split()
        transcript.parent.mkdir(parents=True, exist_ok=True)
        before = transcript.read_text() if transcript.exists() else ""
        transcript.write_text(f"{before}{self.name} ")

        def stay(here: str) -> None:
            if here == point:
                (STAGES / f"{self.name}.at.new").write_text(str(os.getpid()))
                (STAGES / f"{self.name}.at.new").rename(STAGES / f"{self.name}.at")
                while not (STAGES / f"{self.name}.go").exists():
                    time.sleep(0.02)

        stay("started")
        self.begin()
        self.write(f"I begin {self.name}")
        stay("first_text")
        self.write(" and go on.")
        self.call(f"echo {self.name}")
        stay("tool_begun")
        if point == "interrupted":
            self.await_interrupt()
            stay("interrupted")
            self.end_interrupted()
            return
        self.end_call(f"the output of {self.name}")
        stay("tool_result")
        if point == "steered":
            (STAGES / f"{self.name}.waits").touch()
            self.take_text()
            stay("steered")
        self.write(f"Before this came: {before or 'nothing'}")
        self.end()
        stay("result_seen")
        sys.stdin.read()

    @abstractmethod
    def begin(self) -> None:
        """The turn begins."""

    @abstractmethod
    def write(self, text: str) -> None:
        """A piece of a message."""

    @abstractmethod
    def call(self, command: str) -> None:
        """The message ends, and a call of the shell begins."""

    @abstractmethod
    def end_call(self, output: str) -> None:
        """The call has its result."""

    @abstractmethod
    def await_interrupt(self) -> None:
        """Wait until the agent interrupts the turn."""

    @abstractmethod
    def end_interrupted(self) -> None:
        """The turn has ended by the interrupt."""

    @abstractmethod
    def take_text(self) -> None:
        """Wait for a text for the running turn, and take it."""

    @abstractmethod
    def end(self) -> None:
        """The message ends, and the turn."""
