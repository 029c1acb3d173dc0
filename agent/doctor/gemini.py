"""Checks of Gemini CLI: its version, and how it is signed in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from onsembl.agent.doctor.coding_cli import CodingCli, check_version
from onsembl.agent.doctor.findings import Finding, fault, ok
from onsembl.agent.doctor.settings import Unreadable, read_settings
from onsembl.agent.drivers.json_lines import as_object, as_text

GEMINI = CodingCli("gemini", "Gemini CLI", "@google/gemini-cli", (0, 61, 0))
KEY = "GEMINI_API_KEY"
SIGN_IN = f"Set {KEY} in the agent's environment, or run `gemini` as this user and choose how it signs in."


def check_gemini(environment: Mapping[str, str], home: Path) -> list[Finding]:
    """All checks of Gemini CLI, for an agent with this environment."""
    folder = Path(environment.get("GEMINI_CLI_HOME") or home) / ".gemini"
    return [check_version(GEMINI, environment), _check_sign_in(environment, folder / "settings.json")]


def _check_sign_in(environment: Mapping[str, str], settings: Path) -> Finding:
    try:
        auth = as_object(as_object(read_settings(settings).get("security")).get("auth"))
    except Unreadable as error:
        return fault("sign-in", str(error), "Correct the file, or delete it.")
    way = as_text(auth.get("selectedType"))
    if environment.get(KEY):
        return ok("sign-in", f"Found: {KEY}.")
    if way and way != "gemini-api-key":
        return ok("sign-in", f"Found: {way} in {settings}.")
    return fault("sign-in", "Gemini CLI is not signed in.", SIGN_IN)
