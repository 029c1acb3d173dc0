"""Checks of Codex: its version, and how it is signed in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from onsembl.agent.doctor.coding_cli import CodingCli, check_version
from onsembl.agent.doctor.findings import Finding, fault, note, ok
from onsembl.agent.doctor.settings import Unreadable, read_settings

CODEX = CodingCli("codex", "Codex", "@openai/codex", (0, 171, 0))
KEYS = ("OPENAI_API_KEY", "CODEX_API_KEY")
SIGN_IN = "Run `codex login` as this user, or set OPENAI_API_KEY in the agent's environment."


def check_codex(environment: Mapping[str, str], home: Path) -> list[Finding]:
    """All checks of Codex, for an agent with this environment."""
    folder = Path(environment.get("CODEX_HOME") or home / ".codex")
    return [check_version(CODEX, environment), _check_sign_in(environment, folder)]


def _check_sign_in(environment: Mapping[str, str], folder: Path) -> Finding:
    try:
        signed_in = bool(read_settings(folder / "auth.json"))
    except Unreadable as error:
        return fault("sign-in", str(error), f"Delete the file. {SIGN_IN}")
    found = [name for name in KEYS if environment.get(name)] + ([str(folder / "auth.json")] if signed_in else [])
    if found:
        return ok("sign-in", f"Found: {', '.join(found)}.")
    if (folder / "config.toml").exists():  # it may name another provider of models, which needs no sign-in
        return note(
            "sign-in", "No key and no sign-in were found; config.toml may name a provider without one.", SIGN_IN
        )
    return fault("sign-in", "Codex is not signed in.", SIGN_IN)
