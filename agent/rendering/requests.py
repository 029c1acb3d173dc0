"""What a request asks of a person, as text. What is shown beside it anyway, a call or a plan, is not in it."""

from __future__ import annotations

from onsembl.protocol.attention_messages import FormBody, IdleBody, PermissionBody, QuestionBody, RequestBody


def request_text(body: RequestBody) -> str:
    """The text of a request, in some lines. It may have control characters."""
    match body:
        case PermissionBody():
            return body.reason
        case QuestionBody():
            return "\n".join(
                line
                for question in body.questions
                for line in (question.text, *(f"  • {option.label}" for option in question.options))
            )
        case FormBody():
            return f"{body.server}: {body.message}"
        case IdleBody():
            return body.text
        case _:
            return ""
