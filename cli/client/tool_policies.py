"""`onsembl tool-policies`: tools that an admin keeps for admins, or denies."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from onsembl.cli.client.options import server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line


@click.group("tool-policies")
def tool_policies_group() -> None:
    """Keep tools for admins, or deny them. Needs `onsembl login`."""


@tool_policies_group.command("list")
@click.option("--agent", metavar="NAME", help="Only policies in force for this agent.")
@json_option
@server_option
def list_policies(agent: str | None, as_json: bool, server: str | None) -> None:
    """List the policies, oldest first."""
    with OperatorClient(server) as client:
        query = f"?agent_id={client.agent_id(agent)}" if agent is not None else ""
        policies = client.request("GET", f"/v1/tool-policies{query}")["policies"]
        names = client.agent_names()
    if as_json:
        print_json(policies)
        return
    for policy in policies:
        print_line(f"{policy['id']}  {policy['verdict']:<5}  {policy['rule']:<32} {_scope(policy, names)}")


@tool_policies_group.command()
@click.argument("rule")
@click.option("--deny", "verdict", flag_value="deny", help="Deny such calls.")
@click.option("--admin", "verdict", flag_value="admin", help="Only an admin answers requests for such calls.")
@click.option("--agent", metavar="NAME", help="For this agent; without --agent and --label for all agents.")
@click.option("--label", metavar="LABEL", help="For the agents with this label.")
@json_option
@server_option
def create(
    rule: str, verdict: str | None, agent: str | None, label: str | None, as_json: bool, server: str | None
) -> None:
    """Add a policy for the tool calls that RULE fits: TOOL or TOOL(PATTERN). Needs an admin."""
    if verdict is None:
        raise click.UsageError("Give --admin or --deny.")
    with OperatorClient(server) as client:
        body: dict[str, Any] = {"verdict": verdict, "rule": rule, "label": label}
        if agent is not None:
            body["agent_id"] = client.agent_id(agent)
        policy = client.request("POST", "/v1/tool-policies", body)
    if as_json:
        print_json(policy)
    else:
        print_line(f"{'Denied' if verdict == 'deny' else 'Kept for admins'}: {rule}")


@tool_policies_group.command()
@click.argument("policy_id", type=click.UUID)
@json_option
@server_option
def delete(policy_id: UUID, as_json: bool, server: str | None) -> None:
    """Delete a policy. Needs an admin."""
    with OperatorClient(server) as client:
        policy = client.request("DELETE", f"/v1/tool-policies/{policy_id}")
    if as_json:
        print_json(policy)
    else:
        print_line(f"Deleted: {policy['verdict']} {policy['rule']}")


def _scope(policy: dict[str, Any], names: dict[str, str]) -> str:
    if policy["agent_id"] is not None:
        return f"agent {names.get(policy['agent_id'], policy['agent_id'])}"
    return f"label {policy['label']}" if policy["label"] is not None else "all agents"
