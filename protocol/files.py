"""Looking at the files of an agent's working folder: what may be seen, the question and the answer. No I/O.

An answer travels as JSON in parts, because a file may be larger than a message.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from onsembl.protocol.field_types import NO_NUL, Bounded, Count, Message, Time
from onsembl.protocol.json_input import decode

MAX_FILE_BYTES = 1024 * 1024
MAX_ENTRIES = 2000
MAX_DEPTH = 64
"""How many folders deep a path may be."""
PART_CHARACTERS = 64 * 1024
MAX_PARTS = 64

IGNORED = (".git", ".hg", ".svn", "node_modules", ".venv", "venv", "__pycache__", ".tox", ".mypy_cache")
"""The names that are not shown unless an admin sets others."""
SECRETS = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".npmrc", ".yarnrc*", ".pypirc", ".git-credentials"),
    *(".htpasswd", ".pgpass", ".my.cnf", "*.pem", "*.key", "*.p8", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"),
    *("*.ppk", "*.gpg", "*.asc", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "credentials", "credentials.*"),
    *("*credentials*.json", "service-account*.json", "secret", "secrets", "secret.*", "secrets.*", "*.tfstate*"),
    *("*.tfvars", ".ssh", ".gnupg", ".aws", ".azure", ".gcloud", ".kube", ".docker", ".vault-token"),
)
"""The names of files and folders that hold secrets, unless an admin sets others."""

FilePath = Annotated[str, Meta(max_length=1024, pattern=NO_NUL)]
Pattern = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=NO_NUL,
        description="A name, or a path with `/`; `*` and `?` stand for characters. Case does not matter.",
    ),
]


class FileRules(Bounded, frozen=True, kw_only=True, omit_defaults=True):
    """What operators see of an agent's working folder: what is below one of `roots` (paths relative to it; without any,
    the whole folder), and is neither `ignored` nor holds `secrets`; null stands for `IGNORED` and for `SECRETS`.
    `viewers` says whether viewers see it, too."""

    roots: Annotated[list[FilePath], Meta(max_length=32)] = []
    ignored: Annotated[list[Pattern], Meta(max_length=100)] | None = None
    secrets: Annotated[list[Pattern], Meta(max_length=100)] | None = None
    viewers: bool = False


class RequestedFileRules(FileRules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules in a request: unknown names are errors."""


class Look(Message, tag="look", frozen=True, kw_only=True):
    """Show a file or a folder of the working folder; `path` is relative to it, or absolute and below it."""

    request_id: UUID
    path: FilePath
    rules: FileRules


class LookPart(Message, tag="look_part", frozen=True, kw_only=True):
    """A part of the answer to `look`: a piece of JSON. Parts are numbered from 0 and come in order."""

    request_id: UUID
    number: Annotated[int, Meta(ge=0, lt=MAX_PARTS)]
    text: Annotated[str, Meta(max_length=PART_CHARACTERS, pattern=NO_NUL)]
    last: bool


class Entry(Bounded, frozen=True, kw_only=True):
    """One name in a folder; `size` in bytes, of a file. A link is not followed."""

    name: Annotated[str, Meta(max_length=255)]
    kind: Literal["folder", "file", "link", "other"]
    size: Count | None = None


SeenKind = Literal["folder", "text", "image", "binary", "too_large", "link", "other", "refused", "missing"]


class Seen(Bounded, frozen=True, kw_only=True):
    """What a path names. A folder has `entries`, folders first; `hidden` are those that the rules hide, and `omitted`
    those for which there is no room. A `text` has its content, in which bytes that are not UTF-8 are replaced; an
    image, a binary file and one above 1 MiB (`too_large`) are only named. `reason` says why something is `refused`."""

    path: FilePath
    kind: SeenKind
    size: Count | None = None
    modified_at: Time | None = None
    media_type: Annotated[str, Meta(max_length=100)] | None = None
    text: Annotated[str, Meta(max_length=MAX_FILE_BYTES)] | None = None
    entries: Annotated[list[Entry], Meta(max_length=MAX_ENTRIES)] = []
    hidden: Count = 0
    omitted: Count = 0
    reason: Annotated[str, Meta(max_length=256)] | None = None


_seen_decoder = msgspec.json.Decoder(Seen)


def split(path: str) -> tuple[str, ...] | None:
    """The names of a relative path; None for a path that leads out of its folder, or is no path."""
    if path.startswith("/") or "\0" in path:
        return None
    names = tuple(name for name in path.split("/") if name not in ("", "."))
    if ".." in names or len(names) > MAX_DEPTH or any(len(name.encode(errors="replace")) > 255 for name in names):
        return None
    return names


def refusal(names: Sequence[str], rules: FileRules) -> str | None:
    """Why the rules do not show a path; None if they do. The folders above a root are shown."""
    return next((reason for end in range(1, len(names) + 1) if (reason := hides(names[:end], rules))), None)


def hides(names: Sequence[str], rules: FileRules) -> str | None:
    """Why the rules do not show what a folder that they show has; None if they do."""
    roots = [parts for root in rules.roots if (parts := split(root)) is not None]
    if rules.roots and not any(all(one == other for one, other in zip(root, names, strict=False)) for root in roots):
        return "An admin has set other folders to be shown."
    if _matches(names, SECRETS if rules.secrets is None else tuple(rules.secrets)):
        return "By its name, it may hold secrets."
    if _matches(names, IGNORED if rules.ignored is None else tuple(rules.ignored)):
        return "It is ignored."
    return None


def parts_of(request_id: UUID, seen: Seen) -> list[LookPart]:
    """The messages of an answer."""
    text = msgspec.json.encode(seen).decode()
    pieces = [text[at : at + PART_CHARACTERS] for at in range(0, len(text), PART_CHARACTERS)]
    if len(pieces) > MAX_PARTS:  # control characters are long in JSON
        return parts_of(request_id, Seen(path=seen.path, kind="too_large", size=seen.size))
    return [
        LookPart(request_id=request_id, number=number, text=piece, last=number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    ]


def seen_of(pieces: Sequence[str]) -> Seen:
    """The answer whose parts have these texts. Raises InputError."""
    return decode(_seen_decoder, "".join(pieces))


def _matches(names: Sequence[str], patterns: tuple[str, ...]) -> bool:
    of_names, of_paths = _matchers(patterns)
    folded = [_folded(name) for name in names]
    return of_names.fullmatch(folded[-1]) is not None or of_paths.fullmatch("/".join(folded)) is not None


@lru_cache(maxsize=64)
def _matchers(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What matches a name, and what matches a path."""
    stripped = [_folded(pattern).strip("/") for pattern in patterns]
    return (
        _any([pattern for pattern in stripped if "/" not in pattern]),
        _any([pattern for pattern in stripped if "/" in pattern]),
    )


def _any(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)")


def _folded(name: str) -> str:
    """The name as file systems compare it that do not tell upper from lower case, or two forms of an accent."""
    return unicodedata.normalize("NFC", name).casefold()
