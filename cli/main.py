"""The `onsembl` command and its list of subcommands."""

from __future__ import annotations

import click

from onsembl.cli.lazy import LazyCommand, LazyGroup

CLIENT, SERVER = "onsembl.cli.client", "onsembl.cli.server"


@click.group(
    cls=LazyGroup,
    lazy={
        "agent": LazyCommand("onsembl.cli.agent:agent", "Enrol and run an agent on this machine."),
        "agents": LazyCommand(f"{CLIENT}.agents:agents", "List and control agents."),
        "alerts": LazyCommand(f"{CLIENT}.alerts:alerts_group", "List and acknowledge alerts."),
        "attach": LazyCommand(f"{CLIENT}.attach:attach", "Show and use an agent's terminal in this one."),
        "attention": LazyCommand(f"{CLIENT}.attention:attention_group", "List and answer what agents ask."),
        "audit": LazyCommand(f"{CLIENT}.audit:audit_group", "Verify and export the audit log."),
        "commands": LazyCommand(f"{CLIENT}.commands:commands_group", "List, edit and cancel commands."),
        "conversations": LazyCommand(
            f"{CLIENT}.conversations:conversations_group", "List, show and fork conversations."
        ),
        "devices": LazyCommand(f"{CLIENT}.devices:devices_group", "Approve agents that ask to enrol."),
        "enrolment-tokens": LazyCommand(
            f"{CLIENT}.enrolment_tokens:enrolment_tokens_group", "Manage one-time tokens that enrol agents."
        ),
        "events": LazyCommand(f"{CLIENT}.events:events", "Print and follow what happens in the fleet."),
        "export": LazyCommand(f"{CLIENT}.recordings:export", "Export recordings."),
        "groups": LazyCommand(f"{CLIENT}.groups:groups", "Follow and cancel commands for several agents."),
        "hosts": LazyCommand(f"{CLIENT}.hosts:hosts_group", "List machines on which agents can be started."),
        "instances": LazyCommand(f"{CLIENT}.instances:instances_command", "List the API's instances."),
        "jobs": LazyCommand(f"{CLIENT}.jobs:jobs_group", "List jobs, periodic tasks and workers."),
        "keys": LazyCommand(f"{SERVER}.keys:keys", "List and rotate signing keys."),
        "login": LazyCommand(f"{CLIENT}.login:login", "Sign in as an operator."),
        "logout": LazyCommand(f"{CLIENT}.login:logout", "Sign out on this machine."),
        "migrate": LazyCommand(f"{SERVER}.migrate:migrate", "Apply missing migrations to the database."),
        "operator": LazyCommand(f"{SERVER}.operators:operator", "Add, list and disable operators."),
        "presets": LazyCommand(f"{CLIENT}.presets:presets_group", "Manage templates of commands."),
        "prices": LazyCommand(f"{CLIENT}.prices:prices_group", "Manage the prices by which costs are estimated."),
        "recordings": LazyCommand(f"{CLIENT}.recordings:recordings", "List recordings and their disk usage."),
        "recovery": LazyCommand(f"{CLIENT}.recovery:recovery_group", "Let agents come back after a restored backup."),
        "reports": LazyCommand(f"{CLIENT}.reports:reports_group", "List, show and export reports of agents."),
        "schedules": LazyCommand(f"{CLIENT}.schedules:schedules_group", "Manage commands that run on a schedule."),
        "search": LazyCommand(f"{CLIENT}.recordings:search", "Search recordings."),
        "send": LazyCommand(f"{CLIENT}.send:send", "Send a command to agents."),
        "stop": LazyCommand(f"{CLIENT}.stop:stop", "Begin, follow or lift an emergency stop."),
        "supabase": LazyCommand(f"{SERVER}.supabase:supabase", "Set up and check a hosted Supabase project."),
        "tool-policies": LazyCommand(
            f"{CLIENT}.tool_policies:tool_policies_group", "Keep tools for admins, or deny them."
        ),
        "up": LazyCommand(f"{SERVER}.up:up", "Start the control center."),
        "usage": LazyCommand(f"{CLIENT}.usage:usage", "Show tokens and costs."),
        "worker": LazyCommand(f"{SERVER}.worker:worker", "Run jobs."),
    },
)
@click.version_option(package_name="onsembl")
def main() -> None:
    """One control center for a fleet of coding agents."""


if __name__ == "__main__":
    main()
