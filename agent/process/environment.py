"""The environment variables of a command's program."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from onsembl.agent.process.tree import COMMAND_ID_VARIABLE

_WITHHELD = (
    "ONSEMBL_ENROLMENT_TOKEN",  # the agent's own secret
    "COLUMNS",  # the size of the terminal that the agent was started in
    "LINES",
)


def command_environment(own: Mapping[str, str], command_id: str) -> dict[str, str]:
    """The agent's `own` environment without its secrets, with the variables that a command's terminal needs."""
    environment = {name: value for name, value in own.items() if name not in _WITHHELD}
    environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", COMMAND_ID_VARIABLE: command_id}
    # POSIX (Base Definitions, 8.2): LC_ALL overrides LC_CTYPE, which overrides LANG; an empty value does not count.
    locale = next((own[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if own.get(name)), "")
    if not locale.upper().replace("-", "").endswith("UTF8"):
        environment.pop("LC_ALL", None)
        environment["LC_CTYPE"] = environment["LANG"] = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
    return environment
