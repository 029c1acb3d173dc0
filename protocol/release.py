"""The release that a server gives to its agents: a wheel, as both sides of the REST API describe it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from onsembl.protocol.attachments import Sha256
from onsembl.protocol.field_types import END, Bounded

MAX_WHEEL_BYTES = 64 * 1024 * 1024
"""The limit of a release's wheel; the page is most of it."""
NO_WHEEL_PROBLEM = "urn:onsembl:problem:no-wheel"
"""The `type` of the problem that the server has no wheel to give, because it was not installed from one."""

_VERSION = r"[A-Za-z0-9.!+_]{1,64}"

Version = Annotated[str, Meta(max_length=64, pattern=rf"^{_VERSION}{END}")]
WheelName = Annotated[str, Meta(max_length=100, pattern=rf"^onsembl-{_VERSION}-py3-none-any\.whl{END}")]


class Release(Bounded, frozen=True, kw_only=True):
    """A release: the file name of its wheel, the size in bytes, and the SHA-256 hash of the content in hex."""

    version: Version
    wheel: WheelName
    size: Annotated[int, Meta(ge=1, le=MAX_WHEEL_BYTES)]
    sha256: Sha256
