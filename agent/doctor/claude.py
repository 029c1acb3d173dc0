"""Checks of Claude Code: its version, how it is signed in, its configuration and the policy of the machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onsembl.agent.doctor.coding_cli import CodingCli, check_version
from onsembl.agent.doctor.findings import Finding, fault, note, ok
from onsembl.agent.doctor.settings import Unreadable, read_settings
from onsembl.agent.drivers.json_lines import as_object

CLAUDE = CodingCli("claude", "Claude Code", "@anthropic-ai/claude-code", (2, 1, 197))
SIGN_IN = "Set ANTHROPIC_API_KEY in the agent's environment, or run `claude` as this user and sign in with /login."
KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
CLOUDS = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX")
"""Variables that make it use the credentials of a cloud."""


@dataclass(frozen=True, slots=True)
class ClaudeHome:
    """Claude Code's files: the folder `config` (~/.claude or CLAUDE_CONFIG_DIR), the file `state` (.claude.json), and
    the folder `policy` with the managed settings."""

    config: Path
    state: Path
    policy: Path

    @classmethod
    def of(cls, environment: Mapping[str, str], home: Path) -> ClaudeHome:
        """The folders for a process with this environment."""
        given = environment.get("CLAUDE_CONFIG_DIR")
        config = Path(given) if given else home / ".claude"
        policy = "/Library/Application Support/ClaudeCode" if sys.platform == "darwin" else "/etc/claude-code"
        return cls(config, (config if given else home) / ".claude.json", Path(policy))


def check_claude(environment: Mapping[str, str], home: Path, folder: Path, *, root: bool) -> list[Finding]:
    """All checks of Claude Code, for an agent that works in `folder` with this environment."""
    places = ClaudeHome.of(environment, home)
    return [
        check_version(CLAUDE, environment),
        *_check_sign_in(environment, places),
        check_state(places.state, folder),
        check_hooks(places),
        *check_full_mode(environment, root=root),
    ]


def _check_sign_in(environment: Mapping[str, str], places: ClaudeHome) -> list[Finding]:
    file, settings = places.config / ".credentials.json", places.config / "settings.json"
    found: list[str] = []
    faults: list[Finding] = []
    try:
        found += [str(file)] if read_settings(file) else []
    except Unreadable as error:
        faults.append(fault("sign-in", str(error), f"Delete the file. {SIGN_IN}"))
    try:
        own = read_settings(settings)
        variables = as_object(own.get("env"))
        found += ["apiKeyHelper in settings.json"] if own.get("apiKeyHelper") else []
        found += [f"{name} in settings.json" for name in (*KEYS, *CLOUDS) if variables.get(name)]
    except Unreadable as error:
        faults.append(fault("settings", str(error), "Correct the file, or delete it."))
    return faults + ([] if faults and not found else [sign_in_finding(environment, found)])


def sign_in_finding(environment: Mapping[str, str], files: Sequence[str], platform: str = sys.platform) -> Finding:
    """The finding about the names of the credentials that were found; never their values."""
    found = [name for name in (*KEYS, *CLOUDS) if environment.get(name)]
    found += files
    if found:
        return ok("sign-in", f"Found: {', '.join(found)}.")
    if platform == "darwin":  # the keychain asks a person before a program may look
        return note(
            "sign-in", "No key in the environment; a sign-in in the keychain cannot be seen from here.", SIGN_IN
        )
    return fault("sign-in", "Claude Code is not signed in.", SIGN_IN)


def check_state(path: Path, folder: Path) -> Finding:
    """Claude Code's own state: a damaged file ends each start. Commands need no onboarding and no trusted folder."""
    try:
        state = read_settings(path)
    except Unreadable as error:
        return fault("onboarding", str(error), "Delete the file, or restore it from the folder `backups`.")
    project = as_object(as_object(state.get("projects")).get(str(folder)))
    missing = [
        text
        for text, settled in (
            ("its first-run questions", state.get("hasCompletedOnboarding")),
            (f"whether {folder} is trusted", project.get("hasTrustDialogAccepted")),
        )
        if not settled
    ]
    if missing:
        return note(
            "onboarding",
            f"In a terminal, Claude Code would ask {' and '.join(missing)}; commands of an agent are not asked.",
        )
    return ok("onboarding", f"Claude Code asks nothing at its start in {folder}.")


def check_hooks(places: ClaudeHome) -> Finding:
    """Whether the policy of the machine, or the user's own settings, shut off hooks."""
    files = [places.policy / "managed-settings.json", *sorted((places.policy / "managed-settings.d").glob("*.json"))]
    try:
        managed = {path: read_settings(path) for path in files}
        own = read_settings(places.config / "settings.json")
    except Unreadable as error:
        return fault("hooks", str(error), "Have the owner of the file correct it.")
    for path, settings in managed.items():
        for name in ("disableAllHooks", "allowManagedHooksOnly"):
            if settings.get(name) is True:
                need = "Commands of an agent need none, except those with rules that deny tool calls."
                return _hooks_off(path, name, need, "Ask the machine's administrator to change the policy.")
    if own.get("disableAllHooks") is True:
        need = "Commands of an agent need none of them."
        return _hooks_off(places.config / "settings.json", "disableAllHooks", need, "Remove it from the file.")
    return ok("hooks", "No policy shuts off hooks.")


def _hooks_off(path: Path, name: str, need: str, mend: str) -> Finding:
    return note("hooks", f"{name} in {path} shuts off hooks: yours do not run. {need}", mend)


def check_full_mode(environment: Mapping[str, str], *, root: bool) -> list[Finding]:
    """Claude Code refuses the permission mode `full` to root, unless it is told that it runs in a sandbox."""
    if not root or environment.get("IS_SANDBOX") == "1":
        return []
    text = "This user is root: Claude Code refuses the permission mode `full`."
    return [note("root", text, "Run the agent as another user, or set IS_SANDBOX=1 in a sandbox.")]
