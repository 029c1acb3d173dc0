"""Which release this is."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version as installed_version


@cache
def version() -> str:
    """The installed distribution's version."""
    return installed_version("onsembl")
