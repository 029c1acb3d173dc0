"""The server's side of files of prompts, for agents without a server."""

from __future__ import annotations

from onsembl.agent.drivers.attached_files import AttachmentError
from onsembl.protocol.attachments import Attachment


async def no_file(attachment: Attachment) -> bytes:
    """A server that has no file."""
    raise AttachmentError(f"The file {attachment.name} cannot be fetched: File not found.")
