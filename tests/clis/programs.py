"""The real coding CLIs that the lock file names, each as agents run it on the scripted model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from onsembl.cli.server.node import node_command
from onsembl.protocol.permissions import PermissionMode


def _no_settings(_home: Path, _model: str) -> None:
    pass


@dataclass(frozen=True)
class Cli:
    """A coding CLI: the agent's kind and arguments, its command and the program in `node_modules` that is run by it.

    `settings` writes its configuration into a home directory, for a model at an address. `environment` are its further
    variables; MODEL in them stands for that address. `mode` is the permission mode of the cases that name none.
    """

    kind: str
    command: str
    program: str
    environment: Mapping[str, str]
    mode: PermissionMode = "accept_edits"
    arguments: tuple[str, ...] = ()
    settings: Callable[[Path, str], None] = _no_settings

    def use(self, modules: Path, model: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let agents that are started from now on run this CLI on the model, in a home of their own."""
        program = min(modules.glob(self.program), key=lambda path: len(str(path)))  # of OpenCode there are two builds
        for name in ("bin", "home"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "bin" / self.command).symlink_to(program)
        self.settings(folder / "home", model)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value.replace("MODEL", model))
        paths = [str(folder / "bin"), str(Path(node_command()[0]).parent), os.environ["PATH"]]
        monkeypatch.setenv("PATH", os.pathsep.join(paths))
        monkeypatch.setenv("HOME", str(folder / "home"))
        for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            monkeypatch.delenv(name, raising=False)


def _codex(home: Path, model: str) -> None:
    (home / ".codex").mkdir()
    provider = f'{{ name = "scripted", base_url = "{model}/v1", env_key = "OPENAI_API_KEY", wire_api = "responses" }}'
    text = f'model = "scripted"\nmodel_provider = "scripted"\nmodel_providers.scripted = {provider}\n'
    (home / ".codex" / "config.toml").write_text(text)


def _gemini(home: Path, _model: str) -> None:
    (home / ".gemini").mkdir()
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
        "privacy": {"usageStatisticsEnabled": False},
        "model": {"name": "gemini-2.5-flash"},
    }
    (home / ".gemini" / "settings.json").write_text(json.dumps(settings))


def _opencode(permission: str) -> Callable[[Path, str], None]:
    """Settings by which shell commands and changes of files are allowed or asked about."""

    def settings(home: Path, model: str) -> None:
        folder = home / ".config" / "opencode"
        folder.mkdir(parents=True)
        models = {"scripted": {"tool_call": True, "limit": {"context": 100_000, "output": 8_000}}}
        options = {"baseURL": f"{model}/v1", "apiKey": "fake"}
        config = {
            "model": "scripted/scripted",
            "permission": {"bash": permission, "edit": permission},
            "provider": {"scripted": {"npm": "@ai-sdk/openai", "options": options, "models": models}},
        }
        (folder / "opencode.json").write_text(json.dumps(config))

    return settings


CLAUDE = Cli(
    kind="claude",
    command="claude",
    program="@anthropic-ai/claude-code-*/claude",
    environment={
        "ANTHROPIC_BASE_URL": "MODEL",
        "ANTHROPIC_API_KEY": "fake",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "IS_SANDBOX": "1",  # root may use the mode `full`
    },
)
CODEX = Cli(
    kind="codex",
    command="codex",
    program="@openai/codex-*/vendor/*/bin/codex",
    environment={"OPENAI_API_KEY": "fake"},
    settings=_codex,
)
GEMINI = Cli(
    kind="gemini",
    command="gemini",
    program=".bin/gemini",
    environment={
        "GOOGLE_GEMINI_BASE_URL": "MODEL",
        "GEMINI_API_KEY": "fake",
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
    },
    mode="full",
    settings=_gemini,
)
OPENCODE = Cli(
    kind="acp",
    command="opencode",
    program="opencode-*-*/bin/opencode",
    environment={},
    settings=_opencode("allow"),
    arguments=("opencode",),
)
ASKING_OPENCODE = replace(OPENCODE, settings=_opencode("ask"))
"""Only its own settings have OpenCode ask."""
CLAUDE_BY_ACP = Cli(
    kind="acp",
    command="claude-agent-acp",
    program=".bin/claude-agent-acp",
    environment=CLAUDE.environment,
    arguments=("claude-agent-acp",),
)
