"""Reads the files of settings that a coding CLI keeps."""

from __future__ import annotations

from pathlib import Path

import msgspec

from onsembl.agent.drivers.json_lines import Json


class Unreadable(Exception):
    """A file of settings cannot be read; the text says why."""


def read_settings(path: Path) -> Json:
    """The object in a JSON file; empty when there is no file. Raises Unreadable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Unreadable(f"{path} does not hold a JSON object: {error}.") from error
