"""The table of all routes of the REST API."""

from __future__ import annotations

from onsembl.api.routes import access as access_routes
from onsembl.api.routes import agent_control as agent_control_routes
from onsembl.api.routes import agent_release as agent_release_routes
from onsembl.api.routes import agent_settings as agent_settings_routes
from onsembl.api.routes import agents as agent_routes
from onsembl.api.routes import alerts as alert_routes
from onsembl.api.routes import attachments as attachment_routes
from onsembl.api.routes import attention as attention_routes
from onsembl.api.routes import audit as audit_routes
from onsembl.api.routes import commands as command_routes
from onsembl.api.routes import conversations as conversation_routes
from onsembl.api.routes import devices as device_routes
from onsembl.api.routes import enrolment_tokens as enrolment_routes
from onsembl.api.routes import events as event_routes
from onsembl.api.routes import files as file_routes
from onsembl.api.routes import first_steps as first_step_routes
from onsembl.api.routes import groups as group_routes
from onsembl.api.routes import halt as halt_routes
from onsembl.api.routes import host_program as host_program_routes
from onsembl.api.routes import hosts as host_routes
from onsembl.api.routes import instances as instance_routes
from onsembl.api.routes import jobs as job_routes
from onsembl.api.routes import presets as preset_routes
from onsembl.api.routes import recordings as recording_routes
from onsembl.api.routes import recovery as recovery_routes
from onsembl.api.routes import reports as report_routes
from onsembl.api.routes import schedules as schedule_routes
from onsembl.api.routes import search as search_routes
from onsembl.api.routes import stats as stats_routes
from onsembl.api.routes import steps as step_routes
from onsembl.api.routes import tool_policies as tool_policy_routes
from onsembl.api.routes import usage as usage_routes

ENDPOINTS = [
    *access_routes.ENDPOINTS,
    *agent_control_routes.ENDPOINTS,
    *agent_release_routes.ENDPOINTS,
    *agent_settings_routes.ENDPOINTS,
    *command_routes.ENDPOINTS,
    *attachment_routes.ENDPOINTS,
    *attention_routes.ENDPOINTS,
    *tool_policy_routes.ENDPOINTS,
    *event_routes.ENDPOINTS,
    *conversation_routes.ENDPOINTS,
    *step_routes.ENDPOINTS,
    *report_routes.ENDPOINTS,
    *file_routes.ENDPOINTS,
    *first_step_routes.ENDPOINTS,
    *host_routes.ENDPOINTS,
    *host_program_routes.ENDPOINTS,
    *group_routes.ENDPOINTS,
    *preset_routes.ENDPOINTS,
    *schedule_routes.ENDPOINTS,
    *halt_routes.ENDPOINTS,
    *instance_routes.ENDPOINTS,
    *job_routes.ENDPOINTS,
    *audit_routes.ENDPOINTS,
    *alert_routes.ENDPOINTS,
    *device_routes.ENDPOINTS,
    *enrolment_routes.ENDPOINTS,
    *recording_routes.ENDPOINTS,
    *recovery_routes.ENDPOINTS,
    *search_routes.ENDPOINTS,
    *stats_routes.ENDPOINTS,
    *usage_routes.ENDPOINTS,
    *agent_routes.ENDPOINTS,
]
