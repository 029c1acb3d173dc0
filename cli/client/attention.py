"""`onsembl attention`: what agents ask of a person, listed, shown, followed and answered."""

from __future__ import annotations

import json
import sys
import time
from typing import Any
from uuid import UUID

import click

from onsembl.cli.client.options import count_option, server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.errors import CliError
from onsembl.cli.hints import command_line
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import local_time, print_field, print_line, print_lines, styled
from onsembl.protocol.attention_notes import NOTES

POLL_SECONDS = 1.0
STATES = ("open", "answered", "withdrawn")
_REASON_WAYS = {
    "steered": "goes into the running turn as a text",
    "next_command": "is the next command of the conversation, before the others in the queue",
}
"""Where the reason of a denial goes, if the CLI is not told it."""
_request_argument = click.argument("request_id", type=click.UUID)


@click.group("attention")
def attention_group() -> None:
    """List, show, follow and answer what agents ask. Needs `onsembl login`."""


@attention_group.command("list")
@click.option("--agent", metavar="NAME", help="Only requests of this agent.")
@click.option("--state", type=click.Choice([*STATES, "all"]), default="open", show_default=True, help="Their state.")
@count_option
@json_option
@server_option
def list_requests(agent: str | None, state: str, limit: int, as_json: bool, server: str | None) -> None:
    """List what agents ask, oldest first."""
    with OperatorClient(server) as client:
        query = {
            "agent_id": client.agent_id(agent) if agent is not None else None,
            "state": state if state != "all" else None,
        }
        rows = client.collect("/v1/attention", "requests", query, limit, cursor="after")
        names = client.agent_names()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        _print_row(row, names)


@attention_group.command()
@click.option("--agent", metavar="NAME", help="Only requests of this agent.")
@click.option("--count", type=click.IntRange(1), help="Exit after so many requests.")
@json_option
@server_option
def watch(agent: str | None, count: int | None, as_json: bool, server: str | None) -> None:
    """Print each request as it is asked, until Ctrl-C; those that are open now come first."""
    seen: set[tuple[str, str]] = set()
    with OperatorClient(server) as client:
        agent_id = client.agent_id(agent) if agent is not None else None
        while True:
            query = {"agent_id": agent_id, "state": "open"}
            rows = client.collect("/v1/attention", "requests", query, sys.maxsize, cursor="after")
            names = client.agent_names() if any((row["id"], row["digest"]) not in seen for row in rows) else {}
            for row in rows:
                if (key := (row["id"], row["digest"])) not in seen:
                    seen.add(key)
                    if as_json:
                        print_line(json.dumps(row))
                    else:
                        _print_row(row, names)
                    if len(seen) == count:
                        return
            time.sleep(POLL_SECONDS)


@attention_group.command()
@_request_argument
@json_option
@server_option
def show(request_id: UUID, as_json: bool, server: str | None) -> None:
    """Show what an agent asks, whole."""
    with OperatorClient(server) as client:
        row = client.request("GET", f"/v1/attention/{request_id}")
        names = client.agent_names()
    if as_json:
        print_json(row)
        return
    _print_row(row, names)
    _print_body(row["body"])
    if row["state"] == "answered":
        print_field("answered by", row["answered_by_name"], width=12)
        print_field("decision", json.dumps(row["decision"]), width=12)
        print_field("delivery", row["delivery"], width=12)
    elif row["state"] == "withdrawn":
        print_field("withdrawn", row["reason"], width=12)
    elif row["kind"] in NOTES:
        print_line(f"Dismiss it with: {command_line('attention dismiss', row['id'])}")
    elif row["kind"] != "idle":
        if (policy := row.get("for_admins")) is not None:
            print_line(f"Only an admin may answer: {policy['created_by_name']} keeps {policy['rule']} for admins.")
        print_line(f"Answer it with: {command_line('attention answer', row['id'])}")


@attention_group.command()
@_request_argument
@click.option("--allow", "verdict", flag_value="allow", help="Allow the tool call, or approve the plan.")
@click.option("--deny", "verdict", flag_value="deny", help="Deny it; for a question: give no answer; decline a form.")
@click.option("--cancel", "verdict", flag_value="cancel", help="Close a form without an answer, not declining it.")
@click.option("--reason", default="", help="With --deny: the reason, which the CLI gets.")
@click.option(
    "--cli-rule", metavar="RULE", help="With --allow: have the CLI keep this rule that it offers, for good (admins)."
)
@click.option("--input", "changed", metavar="JSON", help="With --allow: the changed arguments of the tool call.")
@click.option(
    "--answer",
    "answers",
    multiple=True,
    metavar="[ID=]TEXT",
    help="The answer to a question: an option or a text (repeat for several questions or options).",
)
@click.option("--form", metavar="JSON", help="The content of a form.")
@click.option(
    "--scope",
    type=click.Choice(["once", "conversation", "always"]),
    default="once",
    show_default=True,
    help="Allow later tool calls like it, too: in this conversation, or in all of the agent's.",
)
@click.option(
    "--rule", help="With --scope: the rule that allows them; by default the narrowest that the request offers."
)
@json_option
@server_option
def answer(
    request_id: UUID,
    verdict: str | None,
    reason: str,
    cli_rule: str | None,
    changed: str | None,
    answers: tuple[str, ...],
    form: str | None,
    scope: str,
    rule: str | None,
    as_json: bool,
    server: str | None,
) -> None:
    """Answer what an agent asks. The first answer counts; the exit code is 1 when somebody was first."""
    if (verdict is not None) + bool(answers) + (form is not None) != 1:
        raise click.UsageError("Give one of --allow, --deny, --cancel, --answer and --form.")
    if cli_rule is not None and verdict != "allow":
        raise click.UsageError("--cli-rule goes with --allow.")
    with OperatorClient(server) as client:
        row = client.request("GET", f"/v1/attention/{request_id}")
        if verdict == "allow":
            given = {"input": changed, "cli_rule": cli_rule}
            decision: dict[str, Any] = {"decision": "allow"} | {
                name: one for name, one in given.items() if one is not None
            }
        elif verdict == "deny":
            decision = {"decision": "deny", "reason": reason}
        elif verdict == "cancel":
            decision = {"decision": "deny", "cancel": True}
        elif form is not None:
            decision = {"decision": "form", "content": form}
        else:
            decision = {"decision": "answers", "answers": _answers(row, answers)}
        body = {"digest": row["digest"], "decision": decision, "scope": scope}
        answered = client.request("POST", f"/v1/attention/{request_id}/answer", body | ({"rule": rule} if rule else {}))
    if as_json:
        print_json(answered)
    else:
        print_line(f"Answered: {answered['title']}")
        way = _REASON_WAYS.get(row["body"].get("reason_way", "told")) if reason and verdict == "deny" else None
        if way is not None:
            print_line(f"The CLI takes no reason: it {way}.")


@attention_group.command()
@_request_argument
@json_option
@server_option
def dismiss(request_id: UUID, as_json: bool, server: str | None) -> None:
    """Dismiss a note, of a failed turn or of a usage limit, for all operators."""
    with OperatorClient(server) as client:
        row = client.request("POST", f"/v1/attention/{request_id}/dismiss")
    if as_json:
        print_json(row)
    else:
        print_line(f"Dismissed: {row['title']}")


def _answers(row: dict[str, Any], given: tuple[str, ...]) -> list[dict[str, Any]]:
    """The answers by the id of their question; without an id they are for the only one. Raises CliError."""
    ids = [question["id"] for question in row["body"].get("questions", ())]
    if not ids:
        raise CliError("The request has no questions.")
    by_id: dict[str, list[str]] = {}
    for one in given:
        id, separator, text = one.partition("=")
        if separator and id in ids:
            by_id.setdefault(id, []).append(text)
        elif len(ids) == 1:
            by_id.setdefault(ids[0], []).append(one)
        else:
            raise CliError(f"Name the question: one of {', '.join(f'--answer {id}=TEXT' for id in ids)}.")
    return [{"id": id, "answers": texts} for id, texts in by_id.items()]


def _print_row(row: dict[str, Any], names: dict[str, str]) -> None:
    agent = names.get(row["agent_id"], row["agent_id"])
    kind = f"{row['kind']}?" if row["guess"] else row["kind"]
    state = "" if row["state"] == "open" else f"  {row['state']}"
    admins = "  (admins only)" if row.get("for_admins") is not None else ""
    print_line(
        styled(f"{row['id']}  {local_time(row['asked_at'])}  ", dim=True),
        f"{agent:<20} {kind:<11} {row['title']}{state}{admins}",
    )


def _print_body(body: dict[str, Any]) -> None:
    match body["kind"]:
        case "permission":
            print_field("tool", body["tool"], width=12)
            print_field("folder", body["folder"], width=12)
            if body["reason"]:
                print_field("reason", body["reason"], width=12)
            print_lines(body["diff"] or body["input"], indent="  ")
            for rule in body["rules"]:
                print_field("rule", rule, width=12)
            for kept in body.get("cli_rules", ()):
                print_field("cli rule", f"{kept['rule']} (for good, in {kept['file']}; admins)", width=12)
        case "question":
            for question in body["questions"]:
                print_field(question["id"], question["text"], width=12)
                for option in question["options"]:
                    print_lines(f"- {option['label']}: {option['description']}", indent="    ")
        case "plan":
            print_lines(body["plan"], indent="  ")
        case "elicitation":
            print_field(body["server"] or "form", body["message"], width=12)
            print_lines(body["schema"], indent="  ")
        case "limit":
            print_field("until", local_time(body["until"]), width=12)
            print_lines(body["text"], indent="  ")
        case _:
            print_lines(body["text"], indent="  ")
