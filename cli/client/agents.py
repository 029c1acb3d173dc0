"""`onsembl agents`: the fleet's agents, as an operator sees and directs them."""

from __future__ import annotations

import json
from typing import Any

import click

from onsembl.cli.client.limit_options import limit_options, limits_of
from onsembl.cli.client.rest_client import OperatorClient, server_option

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_agent_argument = click.argument("name")


@click.group()
def agents() -> None:
    """Look at agents; pause, resume, restart and stop them, shut them out. Needs `onsembl login`."""


@agents.command("list")
@_json_option
@server_option
def list_agents(as_json: bool, server: str | None) -> None:
    """Every agent, by name."""
    with OperatorClient(server) as client:
        found = client.ask("GET", "/v1/agents")["agents"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for agent in found:
        click.echo(f"{agent['name']:<24} {agent['kind']:<8} {_state(agent):<18} {agent['host']}")


@agents.command()
@_agent_argument
@_json_option
@server_option
def show(name: str, as_json: bool, server: str | None) -> None:
    """One agent, and what it does."""
    with OperatorClient(server) as client:
        agent_id = client.agent_id(name)
        agent = client.ask("GET", f"/v1/agents/{agent_id}")
        states = ("running", "dispatched", "queued")
        lines = {
            state: client.ask("GET", f"/v1/commands?agent_id={agent_id}&state={state}")["commands"] for state in states
        }
    if as_json:
        click.echo(json.dumps({"agent": agent, "commands": lines}, indent=2))
        return
    click.echo(f"{agent['name']}  {agent['kind']}  {_state(agent)}  {agent['host']}  {agent['platform']}")
    for state in states:
        for command in reversed(lines[state]):
            click.echo(f"  {state:<10} {command['id']}  {command['text'].strip().splitlines()[0][:80]}")


@agents.command()
@_agent_argument
@_json_option
@server_option
def pause(name: str, as_json: bool, server: str | None) -> None:
    """Have it take nothing new: what runs goes on, its line waits."""
    _post(server, name, "pause", as_json, "is paused.")


@agents.command()
@_agent_argument
@click.argument("labels", nargs=-1)
@_json_option
@server_option
def label(name: str, labels: tuple[str, ...], as_json: bool, server: str | None) -> None:
    """Give it LABELS, by which commands find it; those that are not named it has no more."""
    with OperatorClient(server) as client:
        agent = client.ask("PUT", f"/v1/agents/{client.agent_id(name)}/labels", {"labels": list(labels)})
    click.echo(json.dumps(agent, indent=2) if as_json else f"{name}: {', '.join(agent['labels']) or 'no labels'}")


@agents.command()
@_agent_argument
@limit_options
@_json_option
@server_option
def limit(name: str, as_json: bool, server: str | None, **limits: Any) -> None:
    """Set what no command of it may pass; a limit that is not named it has no more. For admins."""
    with OperatorClient(server) as client:
        agent = client.ask("PUT", f"/v1/agents/{client.agent_id(name)}/limits", limits_of(limits))
    if as_json:
        click.echo(json.dumps(agent, indent=2))
        return
    said = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in agent["limits"].items())
    click.echo(f"{name}: {said or 'no limits'}")


@agents.command()
@_agent_argument
@_json_option
@server_option
def resume(name: str, as_json: bool, server: str | None) -> None:
    """Let it go on with its line."""
    _post(server, name, "resume", as_json, "goes on.")


@agents.command("cancel-all")
@_agent_argument
@click.option("--reason", help="Why, for the record.")
@_json_option
@server_option
def cancel_all(name: str, reason: str | None, as_json: bool, server: str | None) -> None:
    """Cancel everything of it: the line at once, what runs by the ladder."""
    _post(server, name, "cancel-all", as_json, "is being cleared.", {"reason": reason})


@agents.command()
@_agent_argument
@_json_option
@server_option
def restart(name: str, as_json: bool, server: str | None) -> None:
    """Have its program start anew; what runs is stopped first."""
    _post(server, name, "restart", as_json, "starts anew.")


@agents.command()
@_agent_argument
@_json_option
@server_option
def stop(name: str, as_json: bool, server: str | None) -> None:
    """Have its program end: it stays away until somebody starts it on its machine."""
    _post(server, name, "stop", as_json, "ends.")


@agents.command()
@_agent_argument
@_json_option
@server_option
def disable(name: str, as_json: bool, server: str | None) -> None:
    """Shut it out: its connection is closed and its tokens are refused. For admins."""
    _post(server, name, "disable", as_json, "is shut out.")


@agents.command()
@_agent_argument
@_json_option
@server_option
def enable(name: str, as_json: bool, server: str | None) -> None:
    """Let it in again. For admins."""
    _post(server, name, "enable", as_json, "is let in again.")


def _post(
    server: str | None, name: str, verb: str, as_json: bool, said: str, body: dict[str, Any] | None = None
) -> None:
    with OperatorClient(server) as client:
        answer = client.ask("POST", f"/v1/agents/{client.agent_id(name)}/{verb}", body or {})
    click.echo(json.dumps(answer, indent=2) if as_json else f"{name} {said}")


def _state(agent: dict[str, Any]) -> str:
    marks = [agent["status"]]
    if agent["paused_at"] is not None:
        marks.append("paused")
    if agent["disabled_at"] is not None:
        marks.append("disabled")
    return ", ".join(marks)
