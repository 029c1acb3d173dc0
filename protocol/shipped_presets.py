"""The presets that ship with the program. An operator who wants to change one saves a copy."""

from __future__ import annotations

from onsembl.protocol.presets import Preset, Variable
from onsembl.protocol.states import AgentKind

PROSE = [kind for kind in AgentKind if kind.converses]
"""The kinds that understand prose; a shell would run it."""
_WHERE = Variable(name="where", type="path", help="The folder or file to start with; if empty, the whole repository.")

INVESTIGATE = Preset(
    name="Investigate",
    description="Find the cause of a behaviour, with evidence, without changing any file.",
    kinds=PROSE,
    template="""\
Investigate this and find its cause. Do not change any file of the repository.

{{what}}

{{#where}}
Begin at `{{where}}`.

{{/where}}
{{#reproduce}}
It can be reproduced like this:

{{reproduce}}

{{/reproduce}}
How to go about it:
1. Establish what really happens: reproduce it or find the code that does it. Quote the output you saw.
2. Say what was expected and where behaviour first departs from it. Trace it back to the cause, not to the symptom.
3. List the explanations you considered. For each, name the evidence for or against it and how you checked.
4. Look whether the same cause has effects elsewhere{{#history}}, and find the change in the version history that
   brought it in{{/history}}.

{{#quick}}
Be quick: stop at the first explanation that the evidence supports, and say what you did not check.

{{/quick}}
Answer with a report. Its summary: the cause in one paragraph, with file and line, how sure you are, and what would make
you surer. Its findings: the cause first, then other effects and open questions, each with its evidence. Its
recommendations: the smallest fix first, with what it might break. Tell what you know from what you assume.
""",
    report=True,
    variables=[
        Variable(
            name="what", type="long_text", required=True, help="The observed behaviour, and the expected behaviour."
        ),
        _WHERE,
        Variable(name="reproduce", type="long_text", help="Commands or steps that reproduce the behaviour."),
        Variable(name="history", type="boolean", default=True, help="Find the change that introduced the behaviour."),
        Variable(
            name="quick", type="boolean", default=False, help="Stop at the first explanation that fits the evidence."
        ),
    ],
)

REVIEW = Preset(
    name="Review",
    description="Review a change like a careful colleague, without changing any file.",
    kinds=PROSE,
    template="""\
Review the changes of `{{change}}` against `{{base}}`. Do not change any file; do not commit.

{{#intent}}
What the change is meant to do:

{{intent}}

{{/intent}}
{{#where}}
Look only at what is under `{{where}}`.

{{/where}}
Read the whole diff first, then enough of the code around it to judge it: callers, tests, and what else depends on what
was changed.{{#run_tests}} Run the tests that concern it, and report what they said.{{/run_tests}}

The focus is {{focus}}. In any case look for: wrong results and unhandled cases (empty, large, concurrent, failing
half-way); errors that are swallowed; data that can be lost; input that is trusted; a changed interface or format that
others rely on; tests that would pass without the change; names and comments that are no longer true.

Answer with a report of at most {{most}} findings, the most serious first. For each: file and line as evidence; what
goes wrong and with which input, as a concrete scenario; how serious (critical and high block the merge, medium should
be fixed, low is a suggestion). Its recommendations are the fixes, in a few words or lines each. Leave out what a
formatter or linter finds, and praise. If you are not sure, say so and how it could be checked. The summary begins with
one line: merge, merge after fixes, or rework, and why.
""",
    report=True,
    variables=[
        Variable(name="change", default="HEAD", required=True, help="A branch, commit or range."),
        Variable(
            name="base", default="main", required=True, help="The branch or commit that the change is compared with."
        ),
        Variable(name="intent", type="long_text", help="The purpose of the change."),
        Variable(
            name="focus",
            type="choice",
            choices=["correctness", "security", "performance", "tests", "design"],
            default="correctness",
            required=True,
            help="The main focus of the review.",
        ),
        _WHERE,
        Variable(name="most", type="integer", default=10, required=True, help="The maximum number of findings."),
        Variable(name="run_tests", type="boolean", default=True, help="Run the tests that concern the change."),
    ],
)

PLAN = Preset(
    name="Plan",
    description="Plan a piece of work in steps that can be verified, before any code is written.",
    kinds=PROSE,
    template="""\
Make a plan for this. Do not write any of it yet{{#output}}, except for the plan itself, to `{{output}}`{{/output}}.

{{goal}}

{{#constraints}}
It has to hold that:

{{constraints}}

{{/constraints}}
{{#where}}
It concerns `{{where}}` above all.

{{/where}}
First read the code that it touches, its tests and its documentation, and say in a few lines how it works today and
which of its conventions the work has to follow. Name the questions whose answers would change the plan, each with the
answer you assume.

{{#alternatives}}
Then sketch two or three ways to do it, with what each costs and risks, and choose one with the reason.

{{/alternatives}}
Then the plan: at most {{steps}} steps, in order, each small enough to be reviewed and landed alone. For each step: what
changes and in which files; what shows that it works (a test, a command and its output); what can go wrong and how to
get back. Put the step that teaches the most or risks the most as early as possible. Say what is deliberately left out.

Answer with a report. Its summary: the way that was chosen, and what is left out. Its findings: how it works today, the
conventions and the open questions, with file and line as evidence. Its recommendations: the steps, in order.
""",
    report=True,
    variables=[
        Variable(name="goal", type="long_text", required=True, help="The goal of the work, and the people it is for."),
        Variable(
            name="constraints",
            type="long_text",
            help="Requirements, things that must not change, limits of time, tools and formats.",
        ),
        _WHERE,
        Variable(name="steps", type="integer", default=8, required=True, help="The maximum number of steps."),
        Variable(name="alternatives", type="boolean", default=True, help="Compare several approaches first."),
        Variable(name="output", type="path", help="The file for the plan."),
    ],
)

SYNTHESIZE = Preset(
    name="Synthesize",
    description="Combine several sources into one text with their conclusions.",
    kinds=PROSE,
    template="""\
Bring these sources together into {{form}} for {{reader}}:

{{#sources}}
{{sources}}

{{/sources}}
{{#reports}}
{{reports}}

{{/reports}}
{{#question}}
It is to answer this: {{question}}

{{/question}}
Read every source whole before you write. If one cannot be read, say so instead of guessing what is in it.

Put in what the sources amount to together, not one summary after the other: what they agree on, where they contradict
each other and which of them is to be believed and why, what none of them answers. Give the source (file and line,
commit or address) of every claim that matters, and mark what is your own conclusion. Lead with what the reader needs to
decide or do. Write at most {{words}} words.

{{#output}}
Write it to `{{output}}`, and change nothing else.

{{/output}}
{{^output}}
Change no file.

{{/output}}
Answer with a report. Its summary: the text{{#output}} in short{{/output}}. Its findings: where the sources disagree,
with what each of them says as evidence, and what none of them answers. Its recommendations: what to do or decide.
""",
    report=True,
    variables=[
        Variable(
            name="sources",
            type="long_text",
            help="Files, folders, branches, logs, addresses or pasted text.",
        ),
        Variable(name="reports", type="reports", help="Reports of agents: their ids, separated by spaces."),
        Variable(name="question", help="The question that the text answers."),
        Variable(
            name="form",
            type="choice",
            choices=["a report", "a decision paper", "release notes", "a design document", "a hand-over note"],
            default="a report",
            required=True,
            help="The kind of text.",
        ),
        Variable(name="reader", default="the team", required=True, help="The readers of the text."),
        Variable(name="words", type="integer", default=800, required=True, help="The maximum number of words."),
        Variable(name="output", type="path", help="The file for the text; if empty, the text is the answer."),
    ],
)

SHIPPED = {preset.name.lower(): preset for preset in (INVESTIGATE, REVIEW, PLAN, SYNTHESIZE)}
"""The shipped presets by name in lower case: the names of presets are not case-sensitive."""
