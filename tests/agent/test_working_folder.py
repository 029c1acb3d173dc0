"""Looking at files of the working folder, and at nothing outside."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onsembl.agent import looks, working_folder
from onsembl.agent.errors import AgentError
from onsembl.agent.looks import BUSY, NOT_SHOWN, Looks
from onsembl.agent.working_folder import WorkingFolder
from onsembl.protocol.files import MAX_FILE_BYTES, FileRules, Look, LookPart, Seen, seen_of

ALL = FileRules(ignored=[], secrets=[])
SECRET = "outside: a secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return folder_beside_another(tmp_path)


def folder_beside_another(tmp_path: Path) -> Path:
    """A working folder beside a folder that must not be seen."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "private.txt").write_text(SECRET)
    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("print()\n")
    (root / "src" / "private.txt").write_text("inside")
    (root / ".env").write_text("KEY=1")
    return root


@pytest.fixture
def folder(root: Path) -> Iterator[WorkingFolder]:
    folder = WorkingFolder(root)
    yield folder
    folder.close()


def test_files_and_folders_are_shown(root, folder):
    """Folders first; what the rules hide is counted. An absolute path below the folder is taken for a relative one."""
    (root / "link").symlink_to("src")
    os.mkfifo(root / "pipe")
    (root / os.fsdecode(b"\xff")).write_text("x")
    seen = folder.look("", FileRules())
    assert [(entry.name, entry.kind, entry.size) for entry in seen.entries] == [
        ("src", "folder", None),
        ("link", "link", None),
        ("pipe", "other", None),
    ]
    assert (seen.kind, seen.hidden, seen.omitted) == ("folder", 1, 1)
    for path in ("src/a.py", "./src//a.py", str(root / "src" / "a.py")):
        seen = folder.look(path, FileRules())
        assert (seen.path, seen.kind, seen.text, seen.size) == ("src/a.py", "text", "print()\n", 8)
        assert seen.modified_at is not None
    assert folder.look(str(root), FileRules()).path == ""


@pytest.mark.parametrize(
    ("content", "kind", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "image", "image/png"),
        (b"a\0b", "binary", None),
        (b"", "text", None),
        (b"caf\xe9", "text", None),
        (b"x" * MAX_FILE_BYTES, "text", None),
        (b"x" * (MAX_FILE_BYTES + 1), "too_large", None),
    ],
)
def test_only_texts_have_their_content(root, folder, content, kind, media_type):
    (root / "file").write_bytes(content)
    seen = folder.look("file", ALL)
    assert (seen.kind, seen.media_type, seen.size) == (kind, media_type, len(content))
    assert (seen.text is not None) == (kind == "text")


def test_a_large_folder_is_cut(root, folder, monkeypatch):
    for number in range(20):
        (root / "src" / f"{number}.txt").touch()
    for name, most in (("MAX_ENTRIES", 15), ("MAX_NAMES", 10)):
        monkeypatch.setattr(working_folder, name, most)
        seen = folder.look("src", ALL)
        assert (len(seen.entries), seen.omitted) == (most, 22 - most)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("../outside/private.txt", "refused"),
        ("src/../../outside/private.txt", "refused"),
        ("/etc/passwd", "refused"),
        ("{root}/../outside/private.txt", "refused"),
        ("{outside}/private.txt", "refused"),
        ("{root}-other", "refused"),
        ("to-file", "link"),
        ("to-folder", "link"),
        ("to-folder/private.txt", "link"),
        ("to-root/etc/passwd", "link"),
        ("to-itself", "link"),
        ("src/a.py/b", "missing"),
        ("nothing", "missing"),
        ("pipe", "other"),
        ("device", "other"),
        (".env", "refused"),
        ("unreadable", "refused"),
    ],
)
def test_nothing_leads_out(root, folder, path, kind):
    """No `..`, no absolute path, no link; a pipe and a device are not opened."""
    outside = root.parent / "outside"
    (root / "to-file").symlink_to(outside / "private.txt")
    (root / "to-folder").symlink_to(outside)
    (root / "to-root").symlink_to("/")
    (root / "to-itself").symlink_to("to-itself")
    os.mkfifo(root / "pipe")
    if path == "device":
        try:
            os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            kind = "missing"
    if path == "unreadable":
        (root / path).write_text("x")
        (root / path).chmod(0)
        kind = "text" if os.access(root / path, os.R_OK) else kind
    seen = folder.look(path.format(root=root, outside=outside), FileRules())
    assert (seen.kind, SECRET in str(seen)) == (kind, False)


def test_other_file_systems_are_not_entered():
    """An agent whose working folder is / shows no process, and no environment of one."""
    folder = WorkingFolder(Path("/"))
    try:
        for path in ("proc", "proc/self/environ", "/proc/1/environ", "proc/self/cwd", "sys"):
            assert folder.look(path, ALL).kind in ("refused", "missing"), path
    finally:
        folder.close()


def test_a_folder_that_takes_the_place_is_not_shown(root, folder):
    """The folder is the one at the agent's start: not what another program puts in its place, nor a deleted one."""
    root.rename(root.parent / "moved")
    root.symlink_to(root.parent / "outside")
    assert folder.look("private.txt", ALL).kind == "missing"
    assert folder.look("src/a.py", ALL).text == "print()\n"
    for path in ("src/a.py", "src/private.txt", ".env"):
        (root.parent / "moved" / path).unlink()
    (root.parent / "moved" / "src").rmdir()
    (root.parent / "moved").rmdir()
    assert folder.look("", ALL).kind in ("refused", "folder")
    assert folder.look("private.txt", ALL).text is None


PIECES = st.sampled_from(
    ["src", "a.py", "..", ".", "", "to-folder", "to-root", "etc", "passwd", "private.txt", "~", "\\"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(path=st.lists(PIECES, max_size=6).map("/".join) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_no_path_shows_anything_outside(root, folder, path):
    """Whatever the path is, it shows a file below the folder, or none."""
    for name, target in (("to-folder", root.parent / "outside"), ("to-root", Path("/"))):
        with suppress(FileExistsError):
            (root / name).symlink_to(target)
    seen = folder.look(path, FileRules())
    assert seen.text in (None, "print()\n", "inside")
    assert {entry.name for entry in seen.entries} <= {"src", "a.py", "private.txt", "to-folder", "to-root"}


def swap_folder(root: Path) -> None:
    """Put a link to the folder outside in the place of `src`."""
    (root / "src").rename(root / "aside")
    (root / "src").symlink_to(root.parent / "outside")


def swap_file(root: Path) -> None:
    """Put a link to the file outside in the place of `src/private.txt`."""
    (root / "new").symlink_to(root.parent / "outside" / "private.txt")
    (root / "new").replace(root / "src" / "private.txt")


def swap_pipe(root: Path) -> None:
    """Put a pipe, whose reader would wait for ever, in the place of `src/private.txt`."""
    os.mkfifo(root / "new")
    (root / "new").replace(root / "src" / "private.txt")


@pytest.mark.parametrize("swap", [swap_folder, swap_file, swap_pipe])
@pytest.mark.parametrize("before", range(6))
def test_a_swap_before_each_call_of_the_kernel_leads_nowhere(root, monkeypatch, swap, before):
    """Before the n-th stat or open of a look."""
    look_while_swapped(root, monkeypatch, swap, before)


@pytest.mark.parametrize(("swap", "flags"), [(swap_folder, "_FOLDER"), (swap_file, "_FILE")])
def test_a_missing_guard_is_seen(tmp_path, monkeypatch, swap, flags):
    """If links were followed, a swap before one of the calls would show the file outside."""
    monkeypatch.setattr(working_folder, flags, getattr(working_folder, flags) & ~os.O_NOFOLLOW)
    shown: list[int] = []
    for before in range(6):
        (tmp_path / f"{before}").mkdir()
        try:
            look_while_swapped(folder_beside_another(tmp_path / f"{before}"), monkeypatch, swap, before)
        except AssertionError:
            shown.append(before)
    assert shown != []


def look_while_swapped(root: Path, monkeypatch: pytest.MonkeyPatch, swap: Callable[[Path], None], before: int) -> None:
    """Look at a file, which is swapped before the n-th stat or open; nothing outside may be shown."""
    folder = WorkingFolder(root)
    calls = 0

    def hooked(call):
        def run(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == before + 1:
                swap(root)
            return call(*arguments, **options)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", hooked(os.open))
        patch.setattr(os, "stat", hooked(os.stat))
        seen = folder.look("src/private.txt", ALL)
    folder.close()
    assert calls > before or before == 5, "no call was reached"
    assert seen.text in (None, "inside")


def test_no_race_leads_out(root, folder):
    """Another program swaps a folder and a file with links all the time."""
    (root / "link").symlink_to(root.parent / "outside")
    stopping = threading.Event()

    def swap() -> None:
        while not stopping.is_set():
            (root / "src").rename(root / "aside")
            (root / "link").rename(root / "src")
            (root / "src").rename(root / "link")
            (root / "aside").rename(root / "src")
            swap_file(root)
            (root / "new").write_text("inside")
            (root / "new").replace(root / "src" / "private.txt")

    swapping = threading.Thread(target=swap)
    swapping.start()
    kinds: set[str] = set()
    try:
        for _ in range(1500):
            seen = folder.look("src/private.txt", ALL)
            kinds.add(seen.kind)
            assert seen.text in (None, "inside"), "it was read through a link"
    finally:
        stopping.set()
        swapping.join()
    assert len(kinds) > 1, "nothing was swapped in between"


class Answers:
    """Takes the parts of answers."""

    def __init__(self) -> None:
        self._parts: dict[object, list[str]] = {}
        self.seen: asyncio.Queue[Seen] = asyncio.Queue()

    def send(self, part: object) -> None:
        assert isinstance(part, LookPart)
        pieces = self._parts.setdefault(part.request_id, [])
        pieces.append(part.text)
        if part.last:
            self.seen.put_nowait(seen_of(pieces))


def look(path: str) -> Look:
    return Look(request_id=uuid4(), path=path, rules=FileRules())


async def test_an_agent_answers_beside_its_work(root, monkeypatch):
    """A disk that keeps it waiting holds up no other question, up to a bound; a fault is an answer, too."""
    answers, blocked = Answers(), threading.Event()
    shown = Looks(root, answers.send, shown=True)
    whole = WorkingFolder.look

    def slow(self: WorkingFolder, path: str, rules: FileRules) -> Seen:
        if path == "slow":
            blocked.wait(60)
        if path == "broken":
            raise RuntimeError
        return whole(self, path, rules)

    monkeypatch.setattr(WorkingFolder, "look", slow)
    async with asyncio.timeout(60):
        for _ in range(looks.MAX_LOOKS - 1):
            shown.look(look("slow"))
        shown.look(look("src/a.py"))
        assert (await answers.seen.get()).text == "print()\n"
        shown.look(look("broken"))
        assert "internal error" in str((await answers.seen.get()).reason)
        shown.look(look("slow"))
        shown.look(look("src/a.py"))
        assert (await answers.seen.get()).reason == BUSY
        blocked.set()
        assert [(await answers.seen.get()).kind for _ in range(looks.MAX_LOOKS)] == ["missing"] * looks.MAX_LOOKS
        shown.close()


async def test_an_agent_without_the_option_shows_nothing(root):
    answers = Answers()
    hidden = Looks(root / "nothing", answers.send, shown=False)
    assert not hidden.shown
    hidden.look(look("src/a.py"))
    assert (await answers.seen.get()).reason == NOT_SHOWN
    with pytest.raises(AgentError, match="cannot be opened"):
        Looks(root / "nothing", answers.send, shown=True)
    hidden.close()
