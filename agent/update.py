"""Fetches the server's release for this machine: its description, then its wheel, checked by size and hash."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import REQUEST_SECONDS, refresh
from onsembl.agent.enrolment.refusals import refusal
from onsembl.agent.errors import AgentError
from onsembl.agent.folder_lock import FolderInUse, is_in_use, lock_folder
from onsembl.protocol.release import Release

MIN_TOKEN_SECONDS = 30.0
"""An access token with less time left is exchanged first."""
MAX_DESCRIPTION_BYTES = 64 * 1024


async def usable_credentials(folder: Path) -> store.Credentials:
    """The agent's credentials with a valid access token. Raises AgentError.

    The token of an agent that does not run has expired and is exchanged here. A running agent exchanges its own: two
    that do so would look like a thief to the server.
    """
    credentials = store.load(folder)
    if credentials.valid_for(MIN_TOKEN_SECONDS):
        return credentials
    try:
        lock = lock_folder(folder)
    except FolderInUse as error:
        raise AgentError(
            f"The running agent {credentials.name} has no valid access token, because it is not connected. Try again "
            "when it is, or stop it first."
        ) from error
    try:
        credentials = await refresh(store.load(folder))
        store.save(folder, credentials)
    finally:
        os.close(lock)
    return credentials


async def read_release(credentials: store.Credentials) -> Release:
    """The server's release. Raises AgentError."""
    async with _get(credentials, "/v1/agent/release") as response:
        content = b"".join([piece async for piece in _bounded(response, MAX_DESCRIPTION_BYTES)])
    try:
        return msgspec.json.decode(content, type=Release)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise AgentError(f"{credentials.server} describes no release as an Onsembl server does: {error}") from error


async def fetch_wheel(credentials: store.Credentials, release: Release, folder: Path) -> Path:
    """The wheel of the release as a file in `folder`. Raises AgentError, also when it is not the described one."""
    path, digest, size = folder / release.wheel, hashlib.sha256(), 0
    async with _get(credentials, "/v1/agent/release/wheel") as response:
        with path.open("xb") as file:
            async for piece in _bounded(response, release.size):
                await asyncio.to_thread(file.write, piece)
                digest.update(piece)
                size += len(piece)
    if (size, digest.hexdigest()) != (release.size, release.sha256):
        path.unlink()
        raise AgentError(
            f"The wheel that {credentials.server} gave is not the one that it describes: {size:,} bytes with the "
            f"SHA-256 hash {digest.hexdigest()}. Nothing was installed. Try again: a deploy may have come between."
        )
    return path


def running_agents(state_dir: Path) -> list[str]:
    """The names of the agents of this folder that run now."""
    names = [path.parent.name for path in state_dir.glob(f"*/{store.FILE_NAME}")]
    return sorted(name for name in names if is_in_use(state_dir / name))


@asynccontextmanager
async def _get(credentials: store.Credentials, path: str) -> AsyncGenerator[httpx.Response]:
    """The server's successful answer. Redirects are not followed. Raises AgentError."""
    url = credentials.server + path
    headers = {"Authorization": f"Bearer {credentials.access_token}"}
    try:
        async with (
            httpx.AsyncClient(timeout=REQUEST_SECONDS) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            if not response.is_success:
                body = b"".join([piece async for piece in _bounded(response, MAX_DESCRIPTION_BYTES)])
                told = refusal(response.status_code, response.headers, body)
                raise AgentError(told or f"{url} answers {response.status_code}.")
            yield response
    except httpx.HTTPError as error:
        raise AgentError(f"{url} cannot be reached: {error}") from error


async def _bounded(response: httpx.Response, most_bytes: int) -> AsyncGenerator[bytes]:
    """The answer in pieces. Raises AgentError beyond `most_bytes`."""
    size = 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size > most_bytes:
            raise AgentError(f"{response.url} answers more than {most_bytes:,} bytes.")
        yield piece
