"""The check of an agent that runs any CLI by the Agent Client Protocol."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from onsembl.agent.doctor.findings import Finding, note, ok
from onsembl.agent.drivers.acp.clis import KNOWN


def check_acp(environment: Mapping[str, str]) -> Finding:
    """Which of the known CLIs are on the PATH. Others run, too, by their command."""
    path = environment.get("PATH")
    found = [name for name, cli in KNOWN.items() if shutil.which(cli.argv[0], path=path) is not None]
    if found:
        return ok("acp", f"Found: {', '.join(found)}.")
    return note(
        "acp",
        "No known CLI that speaks ACP is on the PATH.",
        "Name its command: onsembl agent run --name NAME -- COMMAND",
    )
