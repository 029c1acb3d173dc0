"""Which decisions a request takes: one of its own kind, whole, and changed only where it may be."""

from __future__ import annotations

import pytest

from onsembl.protocol.attention_messages import (
    Allow,
    Answers,
    CliRule,
    Decision,
    Deny,
    FilledForm,
    FormBody,
    IdleBody,
    PermissionBody,
    PlanBody,
    Question,
    QuestionAnswer,
    QuestionBody,
    QuestionOption,
    RequestBody,
)
from onsembl.protocol.decisions import problem_with

FIXED = PermissionBody(tool="Bash", tool_kind="execute", input="{}")
EDITABLE = PermissionBody(tool="Bash", tool_kind="execute", input="{}", editable=True)
KEPT = CliRule(rule='prefix_rule(pattern=["ls"])', file="/home/a/.codex/rules/default.rules")
KEEPING = PermissionBody(tool="shell", tool_kind="execute", input="{}", cli_rules=[KEPT])
KEEP = Allow(cli_rule=KEPT.rule)
PLAN = PlanBody(plan="# Do it")
FORM = FormBody(server="files", message="Which?", schema="{}")
IDLE = IdleBody(text="It waits.")
ONE_OF_TWO = Question(
    id="a", text="Which?", options=[QuestionOption(label="x"), QuestionOption(label="y")], free_text=False
)
ANY_TEXT = Question(id="b", text="Why?")
QUESTIONS = QuestionBody(questions=[ONE_OF_TWO, ANY_TEXT])
CHANGED = Allow(input='{"command":"ls"}')


def answers(**texts: list[str]) -> Answers:
    return Answers(answers=[QuestionAnswer(id=id, answers=given) for id, given in texts.items()])


@pytest.mark.parametrize(
    ("body", "decision"),
    [
        (FIXED, Allow()),
        (FIXED, Deny(reason="no")),
        (EDITABLE, CHANGED),
        (KEEPING, KEEP),
        (PLAN, Allow()),
        (PLAN, Deny()),
        (FORM, FilledForm(content="{}")),
        (FORM, Deny()),
        (FORM, Deny(cancel=True)),
        (QUESTIONS, answers(a=["x"], b=["because"])),
        (QUESTIONS, Deny()),
    ],
)
def test_a_request_takes_a_decision_of_its_kind(body: RequestBody, decision: Decision) -> None:
    assert problem_with(decision, body) is None


@pytest.mark.parametrize(
    ("body", "decision", "problem"),
    [
        (FIXED, CHANGED, "cannot be changed"),
        (PLAN, CHANGED, "cannot be changed"),
        (FIXED, KEEP, "does not offer"),
        (KEEPING, Allow(cli_rule="another"), "does not offer"),
        (PLAN, KEEP, "does not offer"),
        (PLAN, answers(a=["x"]), "does not take this decision"),
        (FIXED, FilledForm(content="{}"), "does not take this decision"),
        (QUESTIONS, Allow(), "does not take this decision"),
        (QUESTIONS, answers(a=["x"]), "exactly one answer"),
        (QUESTIONS, answers(a=["x"], b=["y"], c=["z"]), "exactly one answer"),
        (QUESTIONS, answers(a=["x", "y"], b=["y"]), "takes one answer"),
        (QUESTIONS, answers(a=["z"], b=["y"]), "takes only its options"),
        (IDLE, Allow(), "has no answer"),
        (IDLE, Deny(), "has no answer"),
        (FIXED, Deny(cancel=True), "Only a form"),
        (QUESTIONS, Deny(cancel=True), "Only a form"),
    ],
)
def test_a_request_takes_no_other_decision(body: RequestBody, decision: Decision, problem: str) -> None:
    assert problem in (problem_with(decision, body) or "")
