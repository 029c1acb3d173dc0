"""Files of prompts: stored by an operator, and missing for an agent without a server."""

from __future__ import annotations

from support.agents import Operator

from onsembl.agent.drivers.attached_files import AttachmentError
from onsembl.protocol.attachments import Attachment


async def no_file(attachment: Attachment) -> bytes:
    """A server that has no file."""
    raise AttachmentError(f"The file {attachment.name} cannot be fetched: File not found.")


async def store(
    operator: Operator, content: bytes, name: str = "a.bin", kind: str = "application/octet-stream", status: int = 201
) -> dict:
    """Store a file; return the answer, which must have this status."""
    answer = await operator.api.http.post(
        "/v1/attachments",
        params={"name": name},
        content=content,
        headers={**operator.headers, "Content-Type": kind},
    )
    assert answer.status_code == status, answer.text
    return answer.json()
