"""The repository contains no generated file, and GitHub accepts its settings."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from check_jsonschema.cli.main_command import main as check_jsonschema
from click.testing import CliRunner, Result

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = {
    "ISSUE_TEMPLATE/bug.yml": "github-issue-forms",
    "ISSUE_TEMPLATE/config.yml": "github-issue-config",
    "ISSUE_TEMPLATE/feature.yml": "github-issue-forms",
    "dependabot.yml": "dependabot",
    "workflows/ci.yml": "github-workflows",
}


def lines(path: str) -> list[str]:
    return [line for line in (ROOT / path).read_text().splitlines() if line and not line.startswith("#")]


def test_no_ignored_file_is_tracked():
    """No tracked file matches .gitignore."""
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout == ""


def test_no_ignored_file_is_copied_into_the_image():
    """.dockerignore names every pattern of the .gitignore files, so an image is built from sources alone."""
    ignored = {line.strip("/") for path in (".gitignore", "dashboard/.gitignore") for line in lines(path)}
    assert ignored - {line.removeprefix("**/") for line in lines(".dockerignore")} == set()


def check(path: Path, schema: str) -> Result:
    return CliRunner().invoke(check_jsonschema, ["--builtin-schema", f"vendor.{schema}", str(path)])


@pytest.mark.parametrize(("path", "schema"), SCHEMAS.items())
def test_github_understands_the_file(path: str, schema: str, tmp_path: Path):
    """Each file fits its schema, and a key that GitHub does not know is rejected."""
    text = (ROOT / ".github" / path).read_text()
    result = check(ROOT / ".github" / path, schema)
    assert result.exit_code == 0, result.output
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(text + "\nno-such-key: 1\n")
    assert check(wrong, schema).exit_code == 1


def test_every_file_for_github_is_checked():
    """The test names a schema for each YAML file in .github."""
    folder = ROOT / ".github"
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*.y*ml")} == set(SCHEMAS)
