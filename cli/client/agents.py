"""`onsembl agents`: list and control the agents of the fleet."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urlencode

import click

from onsembl.cli.client.hosts import host_named
from onsembl.cli.client.options import (
    limit_options,
    limits_of,
    reason_option,
    rule_options,
    rules_of,
    server_option,
)
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import local_time, print_field, print_line, styled
from onsembl.protocol.attention_notes import NOTES
from onsembl.protocol.files import IGNORED, SECRETS
from onsembl.protocol.permissions import PERMISSION_MODES

_name_argument = click.argument("name")


@click.group()
def agents() -> None:
    """List, start, pause, resume, restart, stop, disable, rename and delete agents. Needs `onsembl login`."""


@agents.command("list")
@json_option
@server_option
def list_agents(as_json: bool, server: str | None) -> None:
    """List all agents: first those that wait for a person, then the others, by name. With --json, `waits` is the oldest
    request of each agent, or null."""
    with OperatorClient(server) as client:
        rows = client.request("GET", "/v1/agents")["agents"]
        requests = client.collect("/v1/attention", "requests", {"state": "open"}, sys.maxsize, cursor="after")
    oldest = {request["agent_id"]: request for request in reversed(requests) if request["kind"] not in NOTES}
    if as_json:
        print_json([{**agent, "waits": oldest.get(agent["id"])} for agent in rows])
        return
    for agent in sorted(rows, key=lambda agent: agent["activity"]["name"] != "waiting"):
        print_line(f"{agent['name']:<24} {_cli(agent):<8} {_status(agent):<18} {agent['host']}")
        _print_reasons(agent)
        if (request := oldest.get(agent["id"])) is not None:
            since = local_time(request["asked_at"])
            print_line("  ", styled(f"waits since {since}: {request['title']} ({request['kind']})", fg="yellow"))


@agents.command()
@_name_argument
@json_option
@server_option
def show(name: str, as_json: bool, server: str | None) -> None:
    """Show an agent with its running and queued commands."""
    states = ("running", "dispatched", "queued")
    with OperatorClient(server) as client:
        agent_id = client.agent_id(name)
        agent = client.request("GET", f"/v1/agents/{agent_id}")
        commands = {
            state: client.request("GET", f"/v1/commands?agent_id={agent_id}&state={state}")["commands"]
            for state in states
        }
    if as_json:
        print_json({"agent": agent, "commands": commands})
        return
    release = f"release {agent['version']}" if agent["version"] else ""
    print_line(f"{agent['name']}  {_cli(agent)}  {_status(agent)}  {agent['host']}  {agent['platform']}  {release}")
    _print_reasons(agent)
    for window in agent["rate_windows"]:
        used = f"  {window['used']:.0%} used" if "used" in window else ""
        resets = f"  resets {window['resets_at']}" if "resets_at" in window else ""
        print_line(f"  {window['name']:<14} {window.get('status', 'allowed'):<9}{used}{resets}")
    for state in states:
        for command in reversed(commands[state]):
            print_line(f"  {state:<10} {command['id']}  {command['text'].strip().splitlines()[0][:80]}")


@agents.command()
@_name_argument
@json_option
@server_option
def pause(name: str, as_json: bool, server: str | None) -> None:
    """Pause an agent: a running command continues, and no queued command starts."""
    _post(server, name, "pause", as_json, "is paused.")


@agents.command()
@_name_argument
@click.argument("labels", nargs=-1)
@json_option
@server_option
def label(name: str, labels: tuple[str, ...], as_json: bool, server: str | None) -> None:
    """Set an agent's labels; replaces the existing labels."""
    with OperatorClient(server) as client:
        agent = client.request("PUT", f"/v1/agents/{client.agent_id(name)}/labels", {"labels": list(labels)})
    if as_json:
        print_json(agent)
    else:
        print_line(f"{name}: {', '.join(agent['labels']) or 'no labels'}")


@agents.command("permission-mode")
@_name_argument
@click.argument("mode", type=click.Choice(PERMISSION_MODES))
@json_option
@server_option
def permission_mode(name: str, mode: str, as_json: bool, server: str | None) -> None:
    """Set how far an agent may go without asking a person. Needs an admin.

    From the strictest: plan (it reads and plans), ask (it asks before it changes anything), accept_edits (it edits
    files of its folder), auto (the CLI's own classifier decides), full (it asks nobody). Queued commands that go
    further are held to it, too; a running command continues.
    """
    with OperatorClient(server) as client:
        path = f"/v1/agents/{client.agent_id(name)}/permission-mode"
        agent = client.request("PUT", path, {"permission_mode": mode})
    if as_json:
        print_json(agent)
    else:
        print_line(f"{name}: {agent['permission_mode']}")


@agents.command("rules")
@_name_argument
@click.option("--clear", is_flag=True, help="Remove all rules.")
@rule_options
@json_option
@server_option
def rules(
    name: str, clear: bool, deny: tuple[str, ...], allow: tuple[str, ...], as_json: bool, server: str | None
) -> None:
    """Show an agent's rules for tool calls, or set them: they replace the existing ones. Setting needs an admin.

    \b
    A rule is TOOL or TOOL(PATTERN); repeat the options for several.
      --allow 'Bash(git log*)' --allow 'edit(docs/*)' --deny 'Bash(git push*)' --deny WebFetch
    TOOL is a name, or a kind: read, edit, execute, search, fetch. In a pattern, * stands for any characters.

    A denial wins over what is allowed. Queued commands are held to the rules, too; a running command continues.
    """
    if clear and (allow or deny):
        raise click.UsageError("Give either rules or --clear.")
    with OperatorClient(server) as client:
        path = f"/v1/agents/{client.agent_id(name)}"
        given = {"rules": rules_of({"allow": allow, "deny": deny})}
        agent = client.request("PUT", f"{path}/rules", given) if clear or allow or deny else client.request("GET", path)
    if as_json:
        print_json(agent)
        return
    listed = [f"{verb} {rule}" for verb in ("allow", "deny") for rule in agent["rules"].get(verb, [])]
    for line in listed or [f"{name} has no rules."]:
        print_line(line)


@agents.command("files")
@_name_argument
@click.argument("path", default="")
@json_option
@server_option
def files(name: str, path: str, as_json: bool, server: str | None) -> None:
    """Show a file, or list a folder, of an agent that was started with --files. PATH is relative to its working
    directory, or absolute and below it; by default the directory itself. The audit log records each look."""
    with OperatorClient(server) as client:
        seen = client.request("GET", f"/v1/agents/{client.agent_id(name)}/files?{urlencode({'path': path})}")
    if as_json:
        print_json(seen)
    elif seen["text"] is not None:
        lines = seen["text"].removesuffix("\n").split("\n")
        width = len(str(len(lines)))
        for number, line in enumerate(lines, 1):
            print_line(f"{number:>{width}}  {line}")
    elif seen["kind"] == "folder":
        for entry in seen["entries"]:
            size = "" if entry["size"] is None else f"{entry['size']:,}"
            print_line(f"{entry['kind']:<7} {size:>13}  {entry['name']}{'/' * (entry['kind'] == 'folder')}")
        for count, text in ((seen["hidden"], "hidden by the agent's rules"), (seen["omitted"], "not listed")):
            if count:
                print_line(styled(f"{count:,} {text}", dim=True))
    else:
        kind = {"too_large": "a file above 1 MiB", "other": "no file", "link": "a link, which is not followed"}
        size = "" if seen["size"] is None else f", {seen['size']:,} bytes"
        print_line(f"{seen['path']} is {kind.get(seen['kind'], seen['media_type'] or 'a binary file')}{size}.")


@agents.command("file-rules")
@_name_argument
@click.option("--root", "roots", multiple=True, metavar="PATH", help="Show only this folder (repeat for several).")
@click.option("--ignore", "ignored", multiple=True, metavar="PATTERN", help="Do not show these names.")
@click.option("--secret", "secrets", multiple=True, metavar="PATTERN", help="Names that hold secrets: not shown.")
@click.option("--viewers/--no-viewers", default=None, help="Whether viewers see the files; by default they do not.")
@click.option("--defaults", is_flag=True, help="Set everything that is not given to its default.")
@json_option
@server_option
def file_rules(
    name: str, viewers: bool | None, defaults: bool, as_json: bool, server: str | None, **patterns: tuple[str, ...]
) -> None:
    """Show what operators see of an agent's working directory, or set it. Setting needs an admin.

    \b
    A PATTERN is a name, or a path with /; * and ? stand for characters. Patterns replace the former ones.
      --root src --root docs --ignore node_modules --secret '.env*' --secret '*.pem'

    It applies to agents that were started with --files.
    """
    given: dict[str, Any] = {field: list(values) for field, values in patterns.items() if values}
    if viewers is not None:
        given["viewers"] = viewers
    with OperatorClient(server) as client:
        path = f"/v1/agents/{client.agent_id(name)}"
        agent = client.request("GET", path)
        if given or defaults:
            changed: dict[str, Any] = {**({} if defaults else agent["file_rules"]), **given}
            agent = client.request("PUT", f"{path}/file-rules", {"rules": changed})
    if as_json:
        print_json(agent)
        return
    rules = agent["file_rules"]
    print_line(name, " shows files." if agent["shows_files"] else " was not started with --files, and shows none.")
    for field, default in (("roots", ("all folders",)), ("ignored", IGNORED), ("secrets", SECRETS)):
        print_field(field, ", ".join(rules.get(field) or default), 10)
    print_field("viewers", "see them" if rules.get("viewers") else "do not see them", 10)


@agents.command()
@_name_argument
@limit_options
@json_option
@server_option
def limit(name: str, as_json: bool, server: str | None, **limits: Any) -> None:
    """Set an agent's limits, which no command exceeds; replaces the existing limits. Needs an admin."""
    with OperatorClient(server) as client:
        agent = client.request("PUT", f"/v1/agents/{client.agent_id(name)}/limits", limits_of(limits))
    if as_json:
        print_json(agent)
        return
    shown = ", ".join(
        f"{field.replace('_', ' ')} {value if isinstance(value, str) else format(value, 'g')}"
        for field, value in agent["limits"].items()
    )
    print_line(f"{name}: {shown or 'no limits'}")


@agents.command()
@_name_argument
@json_option
@server_option
def resume(name: str, as_json: bool, server: str | None) -> None:
    """Resume a paused agent: its queue continues."""
    _post(server, name, "resume", as_json, "is resumed.")


@agents.command("go-on")
@_name_argument
@json_option
@server_option
def go_on(name: str, as_json: bool, server: str | None) -> None:
    """Let an agent go on that waits for the reset of its vendor's usage limit."""
    _post(server, name, "go-on", as_json, "goes on.")


@agents.command("cancel-all")
@_name_argument
@reason_option
@json_option
@server_option
def cancel_all(name: str, reason: str | None, as_json: bool, server: str | None) -> None:
    """Cancel an agent's running command and its whole queue."""
    _post(server, name, "cancel-all", as_json, "cancels all its commands.", {"reason": reason})


@agents.command()
@_name_argument
@json_option
@server_option
def restart(name: str, as_json: bool, server: str | None) -> None:
    """Restart an agent's program; a running command is stopped first."""
    _post(server, name, "restart", as_json, "restarts.")


@agents.command()
@_name_argument
@click.option("--on", "host", required=True, metavar="HOST", help="The host that is to run it: onsembl hosts list.")
@click.option("--kind", required=True, help="A kind of agent that the host allows, such as claude or acp:opencode.")
@click.option("--folder", help="Its working folder on the host.", show_default="the host's first folder")
@json_option
@server_option
def start(name: str, host: str, kind: str, folder: str | None, as_json: bool, server: str | None) -> None:
    """Enrol and start a new agent on a machine whose owner allows it (`onsembl agent host`). Needs an admin."""
    with OperatorClient(server) as client:
        found = host_named(client, host)
        body = {"name": name, "kind": kind, "folder": folder or next(iter(found["folders"]), "/")}
        started = client.request("POST", f"/v1/hosts/{found['id']}/agents", body)
    if as_json:
        print_json(started)
    else:
        print_line(f"{name} is started on {started['host']}, in {started['folder']}.")


@agents.command()
@_name_argument
@json_option
@server_option
def stop(name: str, as_json: bool, server: str | None) -> None:
    """Stop an agent's program. It stays offline until somebody starts it on its machine."""
    _post(server, name, "stop", as_json, "stops.")


@agents.command()
@_name_argument
@json_option
@server_option
def disable(name: str, as_json: bool, server: str | None) -> None:
    """Disable an agent: close its connection and reject its tokens. Needs an admin."""
    _post(server, name, "disable", as_json, "is disabled.")


@agents.command()
@_name_argument
@json_option
@server_option
def enable(name: str, as_json: bool, server: str | None) -> None:
    """Enable a disabled agent. Needs an admin."""
    _post(server, name, "enable", as_json, "is enabled.")


@agents.command()
@_name_argument
@click.argument("new_name")
@json_option
@server_option
def rename(name: str, new_name: str, as_json: bool, server: str | None) -> None:
    """Rename an agent. Schedules follow; on its machine, the agent keeps the former name. Needs an admin."""
    with OperatorClient(server) as client:
        agent = client.request("PUT", f"/v1/agents/{client.agent_id(name)}/name", {"name": new_name})
    if as_json:
        print_json(agent)
    else:
        print_line(f"{name} is {agent['name']}.")


@agents.command()
@_name_argument
@click.confirmation_option(prompt="Delete the agent with its queue, commands, conversations, reports and recordings?")
@json_option
@server_option
def delete(name: str, as_json: bool, server: str | None) -> None:
    """Delete an agent that is offline, with its queue, commands, conversations, reports and recordings. The audit log
    and what its turns have cost are kept. Needs an admin."""
    with OperatorClient(server) as client:
        deleted = client.request("DELETE", f"/v1/agents/{client.agent_id(name)}")
    if as_json:
        print_json(deleted)
    else:
        print_line(f"{name} is deleted.")


def _post(
    server: str | None, name: str, action: str, as_json: bool, message: str, body: dict[str, Any] | None = None
) -> None:
    with OperatorClient(server) as client:
        agent = client.request("POST", f"/v1/agents/{client.agent_id(name)}/{action}", body or {})
    if as_json:
        print_json(agent)
    else:
        print_line(f"{name} {message}")


def _print_reasons(agent: dict[str, Any]) -> None:
    """Why the agent takes no command, if it takes none, and an unusual silence."""
    if (silence := agent["silence"]) is not None:
        at = f" It is at: {silence['doing']}" if silence["doing"] is not None else ""
        usual = round(silence["usual_seconds"])
        print_line(f"  silent since {local_time(silence['since'])}, longer than usual (up to {usual} s).{at}")
    if agent["problem"] is not None:
        print_line(f"  takes no command: {agent['problem']}")
    if agent["limited_until"] is not None:
        models = f" for {agent['limited_model']} models" if agent["limited_model"] is not None else ""
        print_line(f"  limited until {agent['limited_until']}: it has reached a usage limit of its vendor{models}")


def _cli(agent: dict[str, Any]) -> str:
    """The name of the agent's CLI: its kind, or the program where the kind does not name it."""
    return agent["cli"] or agent["kind"]


def _status(agent: dict[str, Any]) -> str:
    """What the agent does, and what else holds of it."""
    name = agent["activity"]["name"]
    also = {
        "paused": agent["paused_at"] is not None,
        "disabled": agent["disabled_at"] is not None,
        "problem": agent["problem"] is not None,
        "limited": agent["limited_until"] is not None,
    }
    return ", ".join([name, *(word for word, holds in also.items() if holds and word != name)])
