"""`--file` and `--image` of `onsembl send`: files that go with a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from onsembl.cli.client.options import F
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.errors import CliError
from onsembl.protocol.attachments import MAX_ATTACHMENT_BYTES, MAX_ATTACHMENTS, PLAIN_FILE, image_type


def files_options(command: F) -> F:
    """Add `--file` and `--image`, which `store_files` takes."""
    path = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in (
        click.option(
            "--image", "images", type=path, multiple=True, help="Show the model this image (repeat for several)."
        ),
        click.option("--file", "files", type=path, multiple=True, help="Attach this file (repeat for several)."),
    ):
        command = option(command)
    return command


def store_files(client: OperatorClient, files: Sequence[Path], images: Sequence[Path]) -> list[str]:
    """Store the files at the server, after all are checked; return their ids. Raises CliError."""
    if len(files) + len(images) > MAX_ATTACHMENTS:
        raise CliError(f"A prompt takes at most {MAX_ATTACHMENTS} files.")
    contents: list[tuple[Path, bytes, str]] = []
    left = MAX_ATTACHMENT_BYTES
    for path in (*images, *files):
        content = _read(path, left)
        left -= len(content)
        media_type = image_type(content) if len(contents) < len(images) else PLAIN_FILE
        if media_type is None:
            raise CliError(f"{path} is no PNG, JPEG, GIF or WebP image. Attach it with --file.")
        contents.append((path, content, media_type))
    return [client.upload("/v1/attachments", path.name, content, kind)["id"] for path, content, kind in contents]


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}.") from error
    if not content:
        raise CliError(f"{path} is empty.")
    if len(content) > most:
        raise CliError(f"The files have more than {MAX_ATTACHMENT_BYTES:,} bytes together.")
    return content
