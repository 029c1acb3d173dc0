"""The `onsembl` command. What a machine lacks (the server's packages) is missed only by the commands that need it."""

from __future__ import annotations

import click

from onsembl.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "agent": "onsembl.cli.agent_commands:agent",
        "up": "onsembl.cli.up:up",
        "worker": "onsembl.cli.worker:worker",
        "operator": "onsembl.cli.operator_commands:operator",
        "audit": "onsembl.cli.audit_commands:audit_group",
        "devices": "onsembl.cli.devices_commands:devices_group",
        "enrolment-tokens": "onsembl.cli.enrolment_tokens_commands:enrolment_tokens_group",
        "alerts": "onsembl.cli.alerts_commands:alerts_group",
        "agents": "onsembl.cli.agents_commands:agents",
        "presets": "onsembl.cli.presets_commands:presets_group",
        "schedules": "onsembl.cli.schedules_commands:schedules_group",
        "send": "onsembl.cli.send_command:send",
        "commands": "onsembl.cli.commands_commands:commands_group",
        "groups": "onsembl.cli.groups_commands:groups",
        "jobs": "onsembl.cli.jobs_commands:jobs_group",
        "login": "onsembl.cli.login_command:login",
        "logout": "onsembl.cli.login_command:logout",
        "export": "onsembl.cli.recording_commands:export",
        "recordings": "onsembl.cli.recordings_commands:recordings",
        "search": "onsembl.cli.recording_commands:search",
        "stop": "onsembl.cli.stop_command:stop",
        "keys": "onsembl.cli.keys_commands:keys",
        "supabase": "onsembl.cli.supabase_commands:supabase",
        "migrate": "onsembl.cli.migrate:migrate",
    },
)
@click.version_option(package_name="onsembl")
def main() -> None:
    """One control center for a fleet of coding agents."""


if __name__ == "__main__":
    main()
