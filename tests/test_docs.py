"""Paths, links and anchors in the documents lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
)
MAPS = ("ARCHITECTURE.md", "CONTRIBUTING.md")
"""Documents that name files of the sources."""
NOT_THERE = {".dev/", ".venv/", "spool/", "__init__.py"}
"""Names that are no paths of the repository: folders that a program makes, and a file that must not be there."""
SUFFIXES = (".py", ".ts", ".svelte", ".css", ".sql", ".md", ".toml", ".json", ".sha256")


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named_paths(text: str) -> set[str]:
    """Everything in back quotes, brackets or a picture that looks like a path of the repository."""
    words = set(re.findall(r"`([\w.@/-]+)`", text)) | set(re.findall(r"[\w.-]+(?:/[\w.-]+)+", text))
    return {word for word in words if word.endswith(SUFFIXES) or (word.endswith("/") and not word.startswith("/"))}


@pytest.mark.parametrize("name", MAPS)
def test_every_path_that_is_named_exists(name: str):
    """A file that moved is named by its new path."""
    named = named_paths((ROOT / name).read_text()) - NOT_THERE
    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path):
    """To a file, and to a heading in it."""
    broken: list[str] = []
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_readme_links_every_document():
    """Nothing that is written for readers is hidden from them."""
    linked = {
        (ROOT / link.partition("#")[0]) for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text())
    }
    hidden = {path for path in DOCUMENTS if path.parent in (ROOT, ROOT / "docs", ROOT / "dashboard")} - linked
    assert hidden == {ROOT / "README.md"}
