"""Claude Code's requests for a person, its questions and plans included: what is asked, and the answer in its words."""

from __future__ import annotations

import msgspec

from onsembl.agent.drivers.claude import tools
from onsembl.agent.drivers.json_lines import Json, as_object, as_objects, as_text, to_json
from onsembl.agent.drivers.request_bodies import DENIED, UNANSWERED, form_answer, form_body, form_title, permission_body
from onsembl.agent.drivers.step_recorder import short
from onsembl.protocol.attention_messages import (
    MAX_OPTIONS,
    MAX_QUESTIONS,
    Allow,
    Answers,
    Decision,
    Deny,
    FormBody,
    PlanBody,
    Question,
    QuestionBody,
    QuestionOption,
    RequestBody,
)

QUESTION, PLAN = "AskUserQuestion", "ExitPlanMode"
FOR_PERSONS = (QUESTION, PLAN)
"""Tools whose answer is a person's, whatever the rules allow."""


def body_of(name: str, request: Json, folder: str) -> RequestBody | None:
    """What a `can_use_tool` asks; None for questions that cannot be shown."""
    arguments = as_object(request.get("input"))
    if name == PLAN:
        return PlanBody(plan=as_text(arguments.get("plan")))
    if name == QUESTION:
        return _questions(as_objects(arguments.get("questions")))
    return permission_body(
        name,
        tools.tool_kind(name),
        tools.use(name, arguments, folder),
        input=to_json(arguments),
        folder=folder,
        diffs=tools.diffs(name, arguments),
        reason=as_text(request.get("decision_reason")) or _blocked(as_text(request.get("blocked_path"))),
        editable=True,
    )


def form_of(request: Json) -> FormBody | None:
    """What an `elicitation` asks; None for an address that is to be opened."""
    server, message = as_text(request.get("mcp_server_name")), as_text(request.get("message"))
    return form_body(server, message, request.get("mode"), request.get("requested_schema"), "steered")


def title_of(name: str, body: RequestBody, title: str) -> str:
    """The request in one line; `title` is the call's main argument."""
    match body:
        case PlanBody():
            return f"Plan: {body.plan.lstrip().partition(chr(10))[0].lstrip('# ')}" if body.plan else "Plan"
        case QuestionBody():
            return body.questions[0].text
        case FormBody():
            return form_title(body)
        case _:
            return f"{name} {title}"


def _blocked(path: str) -> str:
    return f"Outside of what it may change: {short(path)}" if path else ""


def changed_arguments(decision: Decision, arguments: Json) -> Json:
    """The arguments that the decision allows."""
    changed = decision.input if isinstance(decision, Allow) else None
    return arguments if changed is None else as_object(msgspec.json.decode(changed))


def _questions(told: list[Json]) -> QuestionBody | None:
    if not 0 < len(told) <= MAX_QUESTIONS:
        return None
    questions: list[Question] = []
    for number, question in enumerate(told, 1):
        options = as_objects(question.get("options"))
        if len(options) > MAX_OPTIONS or not as_text(question.get("question")):
            return None
        questions.append(
            Question(
                id=str(number),
                text=as_text(question.get("question")),
                header=short(as_text(question.get("header"))),
                options=[
                    QuestionOption(label=as_text(option.get("label")), description=as_text(option.get("description")))
                    for option in options
                ],
                multiple=question.get("multiSelect") is True,
            )
        )
    return QuestionBody(questions=questions)


def answer_of(decision: Decision, body: RequestBody, arguments: Json) -> Json:
    """The decision as the CLI takes it, on a call with these arguments."""
    match decision:
        case _ if isinstance(body, FormBody):
            return form_answer(decision)
        case Allow():
            return {"behavior": "allow", "updatedInput": arguments}
        case Answers() if isinstance(body, QuestionBody):
            texts = {question.id: question.text for question in body.questions}
            answers = {texts[answer.id]: ", ".join(answer.answers) for answer in decision.answers}
            return {"behavior": "allow", "updatedInput": {**arguments, "answers": answers}}
        case _:
            usual = UNANSWERED if isinstance(body, QuestionBody) else DENIED
            reason = decision.reason if isinstance(decision, Deny) else ""
            return {"behavior": "deny", "message": reason or usual}
