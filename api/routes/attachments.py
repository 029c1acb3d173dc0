"""Files that go with a prompt: an operator sends them, then names them in a command; its agent fetches them."""

from __future__ import annotations

import hashlib
from uuid import UUID

from psycopg.rows import DictRow
from starlette.responses import Response

from onsembl.api.http.endpoint import Call, Endpoint, body_of
from onsembl.api.http.models import Answer, NoBody, Query
from onsembl.api.http.problems import Problem, found
from onsembl.protocol.attachments import MAX_ATTACHMENT_BYTES, PLAIN_FILE, FileName, image_type
from onsembl.protocol.states import Role
from onsembl.sql import attachments

UPLOAD_SECONDS = 120.0
"""How long a client may take to send a file."""
MAX_UNSENT_BYTES = 10 * MAX_ATTACHMENT_BYTES
"""The limit of an operator's files that no command has yet."""


class StoredFile(Answer, frozen=True, kw_only=True):
    """A stored file. A prompt names it by its `id` in `attachments`. With an image's `media_type`, the coding CLI is
    shown the image; any other file is given to it as a path."""

    id: UUID
    name: str
    media_type: str
    size: int
    sha256: str


class FileQuery(Query, frozen=True, kw_only=True):
    """The name of the file."""

    name: FileName


async def create_attachment(call: Call[NoBody]) -> DictRow:
    """Store a file until a command has it, at most a day. The type in the request is taken for images only, which are
    recognized by their content."""
    name = call.query(FileQuery).name
    claimed = call.request.headers.get("content-type", PLAIN_FILE).partition(";")[0].strip().lower()
    content = await body_of(call.request, MAX_ATTACHMENT_BYTES, UPLOAD_SECONDS)
    if not content:
        raise Problem(422, f"The file {name} is empty.")
    media_type = image_type(content) if claimed.startswith("image/") else PLAIN_FILE
    if media_type is None:
        raise Problem(415, f"The file {name} is no PNG, JPEG, GIF or WebP image. Send it as {PLAIN_FILE}.")
    async with call.services.pool.connection() as conn:
        unsent = await attachments.unsent_bytes(conn, call.signed_in.id)
        if unsent + len(content) > MAX_UNSENT_BYTES:
            raise Problem(409, f"You have {unsent:,} bytes of files that no command has. They are removed after a day.")
        return await attachments.add(
            conn,
            call.signed_in.id,
            name=name,
            media_type=media_type,
            sha256=hashlib.sha256(content).hexdigest(),
            content=content,
        )


async def read_attachment(call: Call[NoBody]) -> Response:
    """The content of a file of the command that the agent runs."""
    agent = await call.services.agent_keys.recognise(call.token)
    async with call.services.pool.connection() as conn:
        content = found(
            await attachments.content_for(conn, agent.id, agent.issued_at, call.id("attachment_id")), "file"
        )
    return Response(content, media_type=PLAIN_FILE)


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/attachments",
        handler=create_attachment,
        summary="Store a file for a prompt",
        answer=StoredFile,
        role=Role.OPERATOR,
        takes_file=True,
        query=FileQuery,
        status=201,
        problems=(409, 413, 415, 422),
    ),
    Endpoint(
        method="GET",
        path="/v1/agent/attachments/{attachment_id:uuid}",
        handler=read_attachment,
        summary="Fetch a file of the agent's running command",
        answer=Answer,
        media_type=PLAIN_FILE,
        role=None,
        presents="an agent's access token",
        problems=(404,),
    ),
]
