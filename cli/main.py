"""The `onsembl` command. What a machine lacks (the server's packages) is missed only by the commands that need it."""

from __future__ import annotations

import click

from onsembl.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "agent": "onsembl.cli.agent:agent",
        "up": "onsembl.cli.server.up:up",
        "worker": "onsembl.cli.server.worker:worker",
        "operator": "onsembl.cli.server.operators:operator",
        "audit": "onsembl.cli.client.audit:audit_group",
        "devices": "onsembl.cli.client.devices:devices_group",
        "enrolment-tokens": "onsembl.cli.client.enrolment_tokens:enrolment_tokens_group",
        "alerts": "onsembl.cli.client.alerts:alerts_group",
        "agents": "onsembl.cli.client.agents:agents",
        "presets": "onsembl.cli.client.presets:presets_group",
        "schedules": "onsembl.cli.client.schedules:schedules_group",
        "send": "onsembl.cli.client.send:send",
        "commands": "onsembl.cli.client.commands:commands_group",
        "groups": "onsembl.cli.client.groups:groups",
        "jobs": "onsembl.cli.client.jobs:jobs_group",
        "login": "onsembl.cli.client.login:login",
        "logout": "onsembl.cli.client.login:logout",
        "export": "onsembl.cli.client.recording_export:export",
        "recordings": "onsembl.cli.client.recordings:recordings",
        "search": "onsembl.cli.client.recording_export:search",
        "stop": "onsembl.cli.client.stop:stop",
        "keys": "onsembl.cli.server.keys:keys",
        "supabase": "onsembl.cli.server.supabase:supabase",
        "migrate": "onsembl.cli.server.migrate:migrate",
    },
)
@click.version_option(package_name="onsembl")
def main() -> None:
    """One control center for a fleet of coding agents."""


if __name__ == "__main__":
    main()
