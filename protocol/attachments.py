"""Files that go with a prompt: their description, and the images that a coding CLI is shown."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from onsembl.protocol.field_types import END, Bounded

MAX_ATTACHMENTS = 20
"""The most files of one prompt."""
MAX_ATTACHMENT_BYTES = 10 * 1024 * 1024
"""The limit of all files of one prompt together, in bytes."""
MAX_FILE_NAME_BYTES = 200
IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
PLAIN_FILE = "application/octet-stream"

FileName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_FILE_NAME_BYTES,
        pattern=r"^(?!\.{1,2}$)[^/\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+" + END,
        description=f"A file's name without folders, of at most {MAX_FILE_NAME_BYTES} bytes in UTF-8.",
        extra={"max_bytes": MAX_FILE_NAME_BYTES},
    ),
]
MediaType = Annotated[str, Meta(min_length=3, max_length=100, pattern=r"^[a-z0-9]+/[a-z0-9][a-z0-9.+-]*" + END)]
FileSize = Annotated[int, Meta(ge=1, le=MAX_ATTACHMENT_BYTES)]
Sha256 = Annotated[str, Meta(max_length=64, pattern=r"^[0-9a-f]{64}" + END)]


class Attachment(Bounded, frozen=True, kw_only=True):
    """A file of a prompt: `size` in bytes, and the SHA-256 hash of its content in hex."""

    id: UUID
    name: FileName
    media_type: MediaType
    size: FileSize
    sha256: Sha256

    @property
    def is_image(self) -> bool:
        """Whether a coding CLI can be shown the content as an image."""
        return self.media_type in IMAGE_TYPES


def image_type(content: bytes) -> str | None:
    """The media type of the image that begins so; None when it is none of `IMAGE_TYPES`."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return None
