"""Applied migrations stay unchanged: each file is as it was in its first commit after the freeze."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.frozen import MANIFEST, NoHistory, edited, freeze_commit, git, unlike_the_manifest

from onsembl.sql.earlier_migrations import EARLIER

ROOT = Path(__file__).resolve().parents[2]
AUTHOR = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false")


def commit(root: Path, files: dict[str, str], message: str) -> None:
    """Write these files, and commit all changes."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(root, "add", "--all")
    git(root, *AUTHOR, "commit", "--quiet", "-m", message)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that froze two migrations, one of them edited before the freeze, and has added one since."""
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    commit(root, {"sql/migrations/0001_a.sql": "select 0;", "sql/standin/0001_s.sql": "select 1;"}, "Begin")
    commit(root, {"sql/migrations/0001_a.sql": "select 1;"}, "Edit, while that was allowed")
    commit(root, {MANIFEST: "# none\n"}, "Freeze")
    commit(root, {"sql/migrations/0002_b.sql": "select 2;"}, "Add")
    return root


def test_migrations_are_what_was_first_committed():
    """No migration was edited, deleted or renamed after the commit that added it, except for a number that the upgrade
    recognises."""
    renumbered = {f"sql/{earlier.name}": f"sql/{earlier.today}" for earlier in EARLIER}
    assert edited(ROOT, renumbered) == []


def test_migrations_are_what_was_frozen():
    """The migrations equal the manifest, even after a rebase that rewrote the commit of the freeze."""
    assert unlike_the_manifest(ROOT) == []


def test_adding_is_no_edit(project: Path):
    """A new migration is no edit, before or after it is committed."""
    (project / "sql/migrations/0003_c.sql").write_text("select 3;")
    assert edited(project) == []


def test_only_a_known_number_may_change(project: Path):
    """A renumbered migration is found unless the upgrade recognises the former number, and an edit with it always."""
    former, present = "sql/migrations/0002_b.sql", "sql/migrations/0003_b.sql"
    (project / former).rename(project / present)
    commit(project, {}, "Renumber")
    assert len(edited(project)) == 1
    assert edited(project, {former: present}) == []
    (project / present).write_text("select 9;")
    assert len(edited(project, {former: present})) == 2


@pytest.mark.parametrize("name", ["sql/migrations/0001_a.sql", "sql/standin/0001_s.sql", "sql/migrations/0002_b.sql"])
@pytest.mark.parametrize("committed", [True, False], ids=["committed", "not committed"])
def test_an_edit_is_found(project: Path, name: str, committed: bool):
    """An edit of a frozen or a later migration is found, even after it is committed."""
    (project / name).write_text("select 9;")
    if committed:
        commit(project, {}, "Edit")
        commit(project, {"README.md": "x"}, "Something else")
    assert [finding.split(" was ")[0] for finding in edited(project)] == [name]
    assert "was edited" in edited(project)[0]


def test_a_rename_is_found(project: Path):
    """A rename is found, because a database knows a migration by its name."""
    (project / "sql/migrations/0002_b.sql").rename(project / "sql/migrations/0003_b.sql")
    commit(project, {}, "Renumber")
    assert edited(project)[0].startswith("sql/migrations/0002_b.sql was removed or renamed")


def test_an_edit_on_a_branch_that_was_merged_is_found(project: Path):
    """An edit on a branch that was merged is found."""
    git(project, "switch", "--quiet", "--create", "side", "HEAD~3")
    commit(project, {"sql/standin/0001_s.sql": "select 9;"}, "Edit")
    git(project, "switch", "--quiet", "main")
    git(project, *AUTHOR, "merge", "--quiet", "side", "-m", "Merge")
    assert edited(project)[0].startswith("sql/standin/0001_s.sql was edited")


def test_a_rebase_keeps_the_freeze(project: Path):
    """A rebase changes the hash of the freeze's commit, which is found by the file that it adds."""
    before = freeze_commit(project)
    git(project, "switch", "--quiet", "--create", "upstream", "HEAD~2")
    commit(project, {"README.md": "x"}, "Something else")
    git(project, "switch", "--quiet", "main")
    git(project, *AUTHOR, "rebase", "--quiet", "upstream")
    assert freeze_commit(project) != before
    assert edited(project) == []
    (project / "sql/migrations/0001_a.sql").write_text("select 0;")
    assert len(edited(project)) == 1


def test_the_manifest_is_not_begun_anew(project: Path):
    """A commit that deletes the manifest and one that adds it again do not move the freeze."""
    text = (project / MANIFEST).read_text()
    (project / MANIFEST).unlink()
    commit(project, {}, "Thaw")
    commit(project, {MANIFEST: text, "sql/migrations/0001_a.sql": "select 9;"}, "Freeze")
    assert len(edited(project)) == 1


def test_a_checksum_that_differs_is_found(project: Path):
    """A checksum that differs from the manifest is found, and so is the checksum of a missing file."""
    (project / MANIFEST).write_text(f"{'0' * 64}  migrations/0001_a.sql\n{'0' * 64}  standin/0009_gone.sql\n")
    assert [finding.split(" ")[0] for finding in unlike_the_manifest(project)] == [
        "sql/migrations/0001_a.sql",
        "sql/standin/0009_gone.sql",
    ]


def test_a_shallow_clone_fails(project: Path, tmp_path: Path):
    """A shallow clone fails, because it lacks the first versions, with the command that fetches these."""
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", project.as_uri(), str(shallow))
    with pytest.raises(NoHistory, match="shallow clone: run `git fetch --unshallow`"):
        edited(shallow)


def test_a_copy_without_git_fails(project: Path, tmp_path: Path):
    """A copy without git fails, even inside another repository."""
    copy = tmp_path / "copy"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns(".git"))
    git(tmp_path, "init", "--quiet")
    with pytest.raises(NoHistory, match="no git repository"):
        edited(copy)


def test_a_history_that_begins_later_fails(project: Path):
    """A history without the commit that adds the manifest fails."""
    git(project, "checkout", "--quiet", "HEAD~2")
    with pytest.raises(NoHistory, match="does not reach the freeze"):
        edited(project)
