"""The doctor: which checks there are for an agent, and what they need of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from onsembl.agent.doctor.acp import check_acp
from onsembl.agent.doctor.claude import ClaudeHome, check_claude
from onsembl.agent.doctor.codex import CODEX, check_codex
from onsembl.agent.doctor.findings import Finding, fault
from onsembl.agent.doctor.gemini import GEMINI, check_gemini
from onsembl.agent.doctor.machine import check_bash, check_cgroups, check_folder, check_git, find_bash
from onsembl.agent.doctor.server import check_credentials, check_server
from onsembl.agent.enrolment import credentials as store
from onsembl.agent.process import cgroup
from onsembl.protocol.states import AgentKind

KINDS = tuple(AgentKind)


def enrolled_names(state_dir: Path) -> list[str]:
    """The names of the agents that have credentials in the folder of all agents."""
    try:
        return sorted(path.parent.name for path in state_dir.glob(f"*/{store.FILE_NAME}"))
    except OSError:
        return []


def _installed() -> set[AgentKind]:
    others = {AgentKind.CODEX: CODEX, AgentKind.GEMINI: GEMINI}
    found = {kind for kind, cli in others.items() if shutil.which(cli.program) is not None}
    return {AgentKind.SHELL, AgentKind.CLAUDE, *found}


def _check_claude(folder: Path) -> list[Finding]:
    config = check_folder("config", ClaudeHome.of(os.environ, Path.home()).config)
    return [config, *check_claude(os.environ, Path.home(), folder, root=os.geteuid() == 0)]


CHECKS: dict[AgentKind, Callable[[Path], list[Finding]]] = {
    AgentKind.SHELL: lambda _folder: [check_bash(find_bash())],
    AgentKind.CLAUDE: _check_claude,
    AgentKind.CODEX: lambda _folder: check_codex(os.environ, Path.home()),
    AgentKind.GEMINI: lambda _folder: check_gemini(os.environ, Path.home()),
    AgentKind.ACP: lambda _folder: [check_acp(os.environ)],
}
"""The checks of an agent of each kind, whose commands run in this folder."""


def examine(
    state_dir: Path, names: Sequence[str], kinds: Iterable[AgentKind], server: str | None, folder: Path
) -> list[Finding]:
    """Check the agents of these names, the kinds (by default as enrolled; without an agent Claude Code and what is
    installed) and the server."""
    findings = [check_folder("home", Path.home()), check_folder("state folder", state_dir)]
    known: list[store.Credentials] = []
    for name in names:
        finding, credentials = check_credentials(name, state_dir / name)
        findings.append(finding)
        known += [credentials] if credentials is not None else []
    if not names:
        mend = "Enrol one with: onsembl agent login --server URL --kind KIND"
        findings.append(fault("credentials", f"No agent is enrolled in {state_dir}.", mend))
    for url in [server] if server is not None else sorted({credentials.server for credentials in known}):
        findings += check_server(url)
    wanted = set(kinds) or {kind for kind in KINDS if kind in {one.kind for one in known}} or _installed()
    for kind in sorted(wanted, key=lambda kind: (kind.converses, KINDS.index(kind))):
        if kind.converses and not any(finding.check == "git" for finding in findings):
            findings.append(check_git(shutil.which("git")))
        findings += CHECKS[kind](folder)
    return [*findings, check_cgroups(cgroup.is_available())]
