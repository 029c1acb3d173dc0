"""Which decisions a request takes. The server asks before it records one, the agent before it gives one to its CLI."""

from __future__ import annotations

import msgspec

from onsembl.protocol.attention_messages import (
    Allow,
    Answers,
    Decision,
    Deny,
    FilledForm,
    FormBody,
    IdleBody,
    PermissionBody,
    PlanBody,
    Question,
    QuestionBody,
    RequestBody,
)
from onsembl.protocol.json_input import InputError, decode

_NOT_KEPT = "The CLI does not offer to keep this rule."
_object = msgspec.json.Decoder(dict[str, object])


def problem_with(decision: Decision, body: RequestBody) -> str | None:
    """Why the request does not take this decision, as a sentence. None when it takes it."""
    match body, decision:
        case IdleBody(), _:
            return "This request has no answer: the program waits for input at its terminal."
        case _, Deny():
            cancels = decision.cancel and not isinstance(body, FormBody)
            return "Only a form can be closed without an answer." if cancels else None
        case PermissionBody(), Allow():
            if decision.input is not None and not body.editable:
                return "This tool call cannot be changed."
            if decision.cli_rule is not None and decision.cli_rule not in [kept.rule for kept in body.cli_rules]:
                return _NOT_KEPT
            return None if decision.input is None else _problem_with_object(decision.input, "The changed input")
        case PlanBody(), Allow():
            if decision.cli_rule is not None:
                return _NOT_KEPT
            return None if decision.input is None else "A plan cannot be changed."
        case QuestionBody(), Answers():
            return _problem_with_answers(body, decision)
        case FormBody(), FilledForm():
            return _problem_with_object(decision.content, "The form's content")
        case _:
            return f"A {body.__struct_config__.tag} does not take this decision."


def _problem_with_object(text: str, name: str) -> str | None:
    try:
        decode(_object, text)
    except InputError as error:
        return f"{name} is no JSON object: {error}"
    return None


def _problem_with_answers(body: QuestionBody, decision: Answers) -> str | None:
    answers = {answer.id: answer.answers for answer in decision.answers}
    questions = {question.id: question for question in body.questions}
    if len(answers) != len(decision.answers) or answers.keys() != questions.keys():
        return "Each question needs exactly one answer."
    for id, texts in answers.items():
        if problem := _problem_with_texts(questions[id], texts):
            return problem
    return None


def _problem_with_texts(question: Question, texts: list[str]) -> str | None:
    if len(texts) > 1 and not question.multiple:
        return f"The question {question.header or question.text!r} takes one answer."
    labels = {option.label for option in question.options}
    if not question.free_text and not labels.issuperset(texts):
        return f"The question {question.header or question.text!r} takes only its options."
    return None
