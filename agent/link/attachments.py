"""Fetches the files of a prompt from the server, by the agent's access token."""

from __future__ import annotations

import httpx

from onsembl.agent.drivers.attached_files import AttachmentError
from onsembl.agent.enrolment.enrol import REQUEST_SECONDS, ServerUnreachable
from onsembl.agent.enrolment.refusals import refusal
from onsembl.protocol.attachments import PLAIN_FILE, Attachment


async def fetch_attachment(server: str, access_token: str, attachment: Attachment) -> bytes:
    """The content of the file, of at most the size that the attachment states.

    Raises AttachmentError when the server does not have it, and ServerUnreachable for all that may pass.
    """
    url = f"{server}/v1/agent/attachments/{attachment.id}"
    content = bytearray()
    try:
        async with (
            httpx.AsyncClient(timeout=REQUEST_SECONDS) as client,
            client.stream("GET", url, headers={"Authorization": f"Bearer {access_token}"}) as response,
        ):
            if not response.is_success:
                told = refusal(response.status_code, response.headers, await response.aread())
                if told is not None and response.status_code in (403, 404):
                    raise AttachmentError(f"The file {attachment.name} cannot be fetched: {told}")
                raise ServerUnreachable(f"{url} answers {response.status_code}.")
            if response.headers.get("Content-Type") != PLAIN_FILE:  # the page of something in between
                raise ServerUnreachable(f"{url} does not answer as an Onsembl server does.")
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > attachment.size:
                    raise AttachmentError(f"The file {attachment.name} is larger than its sender has said.")
    except httpx.HTTPError as error:
        raise ServerUnreachable(f"{url} cannot be reached: {error}") from error
    return bytes(content)
