"""A valid request for every operation of the REST API, and objects for its path."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any
from uuid import uuid4

from support.hosts import SimulatedHost
from support.server import Account, Api

from onsembl.protocol.states import Role
from onsembl.sql.database import connect


@dataclass(frozen=True)
class Example:
    """The parts of a request; `token` names the credential, if it is not the admin's access token."""

    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    file: bytes | None = None
    token: str = "access"


TIME = "2026-01-02T03:04:05Z"
SPAN = {"since": TIME, "until": "2026-02-03T04:05:06Z"}
LIMITS = {
    "work_seconds": 60.0,
    "idle_seconds": 5.0,
    "waiting_seconds": 9.0,
    "tokens": 10,
    "cost_usd": 1.5,
    "on_limit": "fail",
}
RULES = {"allow": ["Bash(git log*)", "edit"], "deny": ["mcp__*"]}
COMMAND = {"text": "ls", "priority": 3, "limits": LIMITS}
VARIABLE = {"name": "goal", "type": "integer", "help": "why", "required": True, "default": 3, "choices": []}
PRESET = {
    "template": "do {{goal}}",
    "description": "a test",
    "variables": [VARIABLE],
    "priority": 4,
    "kind": "shell",
    "limits": LIMITS,
    "rules": RULES,
    "report": False,
}
SCHEDULE = {**COMMAND, "target": {"all": True}, "cron": "0 6 * * *", "time_zone": "Europe/Berlin"}
PRICE = {"pattern": "claude-*", "valid_from": "2026-01-31", "input_usd": 3.0, "output_usd": 15.0}
AUDIT = {
    **SPAN,
    "actor": "x",
    "action": "agent.",
    "target": "t",
    "outcome": "ok",
    "address": "a",
    "text": "w",
}

EXAMPLES: dict[str, Example] = {
    "cancelAgentCommands": Example(body={"reason": "why"}),
    "setAgentPermissionMode": Example(body={"permission_mode": "plan"}),
    "setAgentRules": Example(body={"rules": {"allow": [], "deny": []}}),
    "readFile": Example(query={"path": "a.txt"}),
    "setFileRules": Example(
        body={"rules": {"roots": ["src"], "ignored": ["node_modules"], "secrets": [".env"], "viewers": True}}
    ),
    "renameAgent": Example(body={"name": "another-name"}),
    "setAgentLabels": Example(body={"labels": ["blue"]}),
    "setAgentLimits": Example(body=LIMITS),
    "createPolicy": Example(body={"verdict": "deny", "rule": "mcp__*", "label": "blue"}),
    "listPolicies": Example(query={"agent_id": str(uuid4())}),
    "sendCommand": Example(body={**COMMAND, "attachments": []}),
    "readAttachment": Example(token="fetching"),
    "readRelease": Example(token="agent"),
    "readWheel": Example(token="agent"),
    "createAttachment": Example(query={"name": "a.txt"}, file=b"x"),
    "listCommands": Example(
        query={
            **SPAN,
            "before": "9",
            "limit": "5",
            "agent_id": str(uuid4()),
            "state": "queued,lost",
            "group_id": str(uuid4()),
            "conversation_id": str(uuid4()),
            "tag": "blue",
            "by": "admin",
            "q": "ls",
        }
    ),
    "editCommand": Example(body={**COMMAND, "note": "a note", "tags": ["blue"], "revision": 0}),
    "cancelCommand": Example(body={"reason": "why"}),
    "moveCommand": Example(body={"to": "first"}),
    "reassignCommand": Example(body={"agent_id": str(uuid4())}),
    "createGroup": Example(body={**COMMAND, "target": {"all": True}}),
    "listGroups": Example(query={"before": "9", "limit": "5"}),
    "cancelGroup": Example(body={"reason": "why"}),
    "previewPreset": Example(body={"preset": {**PRESET, "name": "p"}, "values": {"goal": 4}}),
    "savePreset": Example(body=PRESET),
    "createSchedule": Example(body={**SCHEDULE, "name": "created"}),
    "previewScheduleTimes": Example(query={"cron": "0 6 * * *", "time_zone": "Europe/Berlin"}),
    "updateSchedule": Example(body={**SCHEDULE, "name": "changed"}),
    "listScheduleRuns": Example(query={"limit": "5"}),
    "listRequests": Example(
        query={
            "state": "open",
            "agent_id": str(uuid4()),
            "command_id": str(uuid4()),
            "kind": "plan",
            "after": "9",
            "limit": "5",
        }
    ),
    "answerRequest": Example(
        body={"digest": "0" * 64, "decision": {"decision": "allow", "input": None}, "scope": "always", "rule": "Bash"}
    ),
    "answerRequests": Example(
        body={
            "answers": [
                {
                    "id": str(uuid4()),
                    "digest": "0" * 64,
                    "decision": {"decision": "deny", "reason": "no"},
                    "scope": "once",
                    "rule": "Bash",
                }
            ]
        }
    ),
    "listRules": Example(query={"agent_id": str(uuid4()), "before": "9", "limit": "5"}),
    "listEvents": Example(
        query={"after": "0", "kind": "attention", "agent_id": str(uuid4()), "limit": "5"},
    ),
    "listReports": Example(
        query={
            "agent_id": str(uuid4()),
            "conversation_id": str(uuid4()),
            "command_id": str(uuid4()),
            "preset": "Review",
            "q": "w",
            "pinned": "true",
            "superseded": "false",
            "before": "9",
            "limit": "5",
        }
    ),
    "exportReport": Example(query={"format": "html"}),
    "readUsage": Example(query={**SPAN, "by": "label", "time_zone": "Europe/Berlin", "limit": "5"}),
    "exportUsage": Example(query=SPAN),
    "setPrice": Example(body={**PRICE, "cache_read_usd": 0.3, "cache_write_usd": 3.75}),
    "beginHalt": Example(body={"reason": "why"}),
    "listJobs": Example(query={"state": "failed", "before": "9", "limit": "5"}),
    "listAuditEvents": Example(query={**AUDIT, "before": "9", "limit": "5"}),
    "exportAuditLog": Example(query={**AUDIT, "format": "csv"}),
    "approveDeviceRequest": Example(body={"name": "approved", "replace": True}),
    "createEnrolmentToken": Example(body={"name_pattern": "a*", "expires_in": 60}),
    "readTerminalModes": Example(query={"at": "0"}),
    "listAgentStreams": Example(query={"before": TIME, "limit": "5"}),
    "readStreamTimeline": Example(query={"start": "0", "end": "9", "parts": "3"}),
    "listStreamCommands": Example(query={"start": "0", "end": "9", "cursor": "[0,0]", "limit": "5"}),
    "readStreamOutput": Example(query={"start": "0", "end": "9"}),
    "readStreamPieces": Example(query=SPAN),
    "exportStreamRecording": Example(query={"start": "0", "until": TIME, "format": "text"}),
    "exportCommandRecording": Example(query={"format": "cast2"}),
    "exportAgentRecording": Example(query={**SPAN, "format": "cast3"}),
    "searchHistory": Example(
        query={**SPAN, "q": "ls", "kind": "commands", "agent_id": str(uuid4()), "cursor": "9", "limit": "5"}
    ),
    "enrolAgent": Example(
        body={"name": "enrolled", "kind": "shell", "mode": "exec", "host": "h", "platform": "p"}, token="enrolment"
    ),
    "refreshAgentToken": Example(token="refresh"),
    "logOutAgent": Example(token="refresh"),
    "listConversations": Example(query={"before": "9", "limit": "5", "agent_id": str(uuid4()), "q": "a"}),
    "renameConversation": Example(body={"title": "a title"}),
    "forkConversation": Example(body={}),
    "beginConversationAnew": Example(body={}),
    "importConversation": Example(body={"cli_id": "0c5e4f2a-1111-4222-8333-444455556666", "title": "begun outside"}),
    "listSteps": Example(query={"after": "0", "limit": "5"}),
    "verifyAuditLog": Example(body={"expected": []}),
    "openRecovery": Example(body={"expires_in": 300}),
    "recoverAgent": Example(token="recovery"),
    "startAgent": Example(body={"name": "begun", "kind": "shell", "folder": "/tmp"}),
    "enrolHost": Example(body={"name": "a-host", "machine": "m", "platform": "p"}, token="enrolment"),
    "connectHost": Example(
        body={"kinds": ["shell"], "folders": ["/tmp"], "max_agents": 2, "machine": "m", "platform": "p"}, token="host"
    ),
    "pollHost": Example(body={"epoch": 0, "running": 0, "leaving": True}, token="host"),
    "enrolStartedAgent": Example(body={"epoch": 0}, token="host"),
    "reportStart": Example(body={"epoch": 0, "state": "refused", "reason": "why"}, token="host"),
}
"""The examples of operations that need more than a path."""


class Objects:
    """Makes the objects that paths and credentials name, a new one each time."""

    def __init__(self, api: Api, admin: Account, online_agent: str) -> None:
        self._api, self._admin, self._online_agent = api, admin, online_agent
        self._number = count(1)
        self._asked_host: SimulatedHost | None = None
        """The host whose request is in the path."""
        self.serving_host = ""
        """The id of a host that starts agents."""
        self._makers: dict[str, Callable[[], Awaitable[str]]] = {
            "agent_id": self._agent,
            "operator_id": self._operator,
            "command_id": self._command,
            "group_id": self._group,
            "schedule_id": self._schedule,
            "stream_id": self._stream,
            "alert_id": self._alert,
            "job_id": self._job,
            "request_id": self._device_request,
            "token_id": self._enrolment_token,
            "user_code": self._user_code,
            "conversation_id": self._conversation,
            "name": self._preset,
            "price_id": self._price,
            "attachment_id": self._attachment,
            "report_id": self._report,
            "attention_id": self._request_of_an_agent,
            "rule_id": self._attention_rule,
            "policy_id": self._tool_policy,
            "host_id": self._host,
            "start_id": self._start,
        }

    async def path_value(self, operation: str, parameter: str) -> str:
        """The value of a path parameter: the id or the name of a new object that the operation accepts."""
        if operation in ("readFile", "restartAgent", "stopAgent"):
            return self._online_agent
        if operation == "startAgent" and self.serving_host:
            return self.serving_host
        if operation == "exportCommandRecording":
            return await self._recorded_command()
        if operation == "importConversation":
            return (await self._api.enrol(f"agent-{next(self._number)}", "claude")).id
        if operation == "beginConversationAnew":
            return await self._forgotten_conversation()
        if operation == "readStep":
            return await self._step(parameter)
        if operation == "dismissNote":
            return await self._note()
        return await self._makers[parameter]()

    async def completed(self, operation: str, example: Example) -> Example:
        """The example of an operation, with the objects that its body names."""
        if operation == "reassignCommand":
            return replace(example, body={"agent_id": await self._agent()})
        return example

    async def credential(self, token: str) -> str:
        """The bearer token of a request."""
        if token == "enrolment":
            return await self._api.enrolment_token()
        if token == "host":
            host = self._asked_host or await self._new_host()
            self._asked_host = None
            return host.secret
        if token == "fetching":
            return self._fetching
        if token == "agent":
            return (await self._api.enrol(f"agent-{next(self._number)}")).access_token
        if token in ("refresh", "recovery"):
            agent = await self._api.enrol(f"agent-{next(self._number)}")
            return agent.refresh_token if token == "refresh" else agent.recovery_secret
        return self._admin.access_token

    async def _post(self, path: str, body: dict[str, Any], field: str = "id") -> str:
        response = await self._api.http.post(path, json=body, headers=self._admin.headers)
        assert response.is_success, response.text
        return response.json()[field]

    async def _insert(self, statement: str, *values: object) -> str:
        async with await connect(self._api.database_url) as conn:
            cursor = await conn.execute(statement.encode(), values)
            row = await cursor.fetchone()
            assert row is not None
            return str(row["id"])

    async def _agent(self) -> str:
        return (await self._api.enrol(f"agent-{next(self._number)}")).id

    async def _operator(self) -> str:
        viewer = await self._api.operator(Role.VIEWER)
        operators = await self._api.http.get("/v1/operators", headers=self._admin.headers)
        return next(one["id"] for one in operators.json()["operators"] if one["email"] == viewer.email)

    async def _command(self) -> str:
        return await self._post(f"/v1/agents/{await self._agent()}/commands", {"text": "ls"})

    async def _recorded_command(self) -> str:
        return await self._insert(
            """update commands set state = 'succeeded', stream_id = %s, output_start = 0, output_end = 0
               where id = %s returning id""",
            await self._stream(),
            await self._command(),
        )

    async def _group(self) -> str:
        return await self._post("/v1/groups", {"text": "ls", "target": {"agents": [await self._agent()]}})

    async def _schedule(self) -> str:
        return await self._post("/v1/schedules", {**SCHEDULE, "name": f"schedule-{next(self._number)}"})

    async def _stream(self) -> str:
        return await self._insert("insert into streams (agent_id) values (%s) returning id", await self._agent())

    async def _alert(self) -> str:
        return await self._insert("insert into alerts (kind, text) values ('refresh_token_reused', 'x') returning id")

    async def _job(self) -> str:
        return await self._insert(
            """insert into procrastinate_jobs (queue_name, task_name, args, status)
               values ('default', 'task', %s, 'failed') returning id""",
            json.dumps({"timestamp": 1}),
        )

    async def _request(self) -> dict[str, Any]:
        form = {"client_id": "onsembl-agent", "name": f"asks-{next(self._number)}", "kind": "shell"}
        response = await self._api.http.post("/v1/device/authorization", data=form)
        assert response.is_success, response.text
        return response.json()

    async def _conversation(self) -> str:
        agent = await self._api.enrol(f"agent-{next(self._number)}", "claude")
        return await self._insert(
            "insert into conversations (agent_id, cli_id, title, imported) values (%s, %s, 'x', true) returning id",
            agent.id,
            str(uuid4()),
        )

    async def _forgotten_conversation(self) -> str:
        """A conversation whose last answer is stored."""
        conversation, command = await self._conversation(), await self._step("command_id")
        await self._insert("update commands set conversation_id = %s where id = %s returning id", conversation, command)
        return await self._insert(
            "update conversations set state = 'forgotten' where id = %s returning id", conversation
        )

    async def _attachment(self) -> str:
        """A file of the command that an agent runs, whose access token is `_fetching`."""
        agent = await self._api.enrol(f"agent-{next(self._number)}", "claude")
        self._fetching = agent.access_token
        command = await self._insert(
            """insert into commands (agent_id, text, priority, requested_by_name, state)
               values (%s, 'x', 5, 'x', 'running') returning id""",
            agent.id,
        )
        file = await self._insert(
            """insert into attachments (operator_id, name, media_type, size, sha256, content)
               values (%s, 'a', 'image/png', 1, repeat('a', 64), 'x') returning id""",
            str(uuid4()),
        )
        await self._insert("insert into command_attachments values (%s, %s) returning command_id as id", command, file)
        return file

    async def _step(self, parameter: str) -> str:
        if parameter == "number":
            return "1"
        return await self._insert(
            """insert into steps (at, command_id, number, changed, revision, kind, name, title, status, text, result,
                   text_omitted, result_omitted, denied, started_at, output_start, output_end)
               select created_at, id, 1, 1, 1, 'message', '', '', 'completed', 'x', '', 0, 0, false, now(), 0, 0
               from commands where id = %s
               returning command_id as id""",
            await self._command(),
        )

    async def _report(self) -> str:
        return await self._insert(
            """insert into reports (command_id, agent_id, version, title, severities, report, text, text_omitted)
               select id, agent_id, 1, 'x', '{"low": 1}', '{"title": "x", "summary": "y"}', '{}', 0
               from commands where id = %s returning id""",
            await self._command(),
        )

    async def _request_of_an_agent(self) -> str:
        return await self._insert(
            """insert into attention (id, agent_id, command_id, kind, title, body, digest)
               select gen_random_uuid(), agent_id, id, 'permission', 'ls',
                   '{"kind": "permission", "tool": "Bash", "tool_kind": "execute", "input": "{}", "rules": ["Bash"],
                     "editable": true}',
                   repeat('0', 64)
               from commands where id = %s returning id""",
            await self._command(),
        )

    async def _note(self) -> str:
        return await self._insert(
            """insert into attention (id, agent_id, command_id, kind, title, body, digest)
               select gen_random_uuid(), agent_id, id, 'failed', 'ls', '{"kind": "failed", "state": "lost"}',
                   repeat('0', 64)
               from commands where id = %s returning id""",
            await self._command(),
        )

    async def _attention_rule(self) -> str:
        return await self._insert(
            """insert into attention_rules (agent_id, rule, attention_id, created_by_name)
               select agent_id, 'Bash', id, 'x' from attention where id = %s returning id""",
            await self._request_of_an_agent(),
        )

    async def _tool_policy(self) -> str:
        return await self._insert(
            """insert into tool_policies (verdict, rule, agent_id, created_by_name)
               select 'admin', 'Bash', id, 'x' from agents where id = %s returning id""",
            await self._agent(),
        )

    async def _new_host(self) -> SimulatedHost:
        return await SimulatedHost.enrolled(self._api, f"host-{next(self._number)}")

    async def _host(self) -> str:
        return (await self._new_host()).id

    async def _start(self) -> str:
        """A request to a host, which stays open."""
        self._asked_host = await self._new_host()
        return await self._insert(
            """insert into agent_starts (host_id, name, kind, folder, requested_at)
               values (%s, %s, 'shell', '/tmp', now() + interval '1 hour') returning id""",
            self._asked_host.id,
            f"started-{next(self._number)}",
        )

    async def _user_code(self) -> str:
        return (await self._request())["user_code"]

    async def _device_request(self) -> str:
        code = await self._user_code()
        response = await self._api.http.get(f"/v1/device/requests/{code}", headers=self._admin.headers)
        return response.json()["id"]

    async def _enrolment_token(self) -> str:
        return await self._post("/v1/enrolment-tokens", {})

    async def _price(self) -> str:
        return await self._insert(
            """insert into prices (pattern, valid_from, input_usd, output_usd, cache_read_usd, cache_write_usd)
               values (%s, '2026-01-01', 1, 2, 3, 4) returning id""",
            f"model-{next(self._number)}",
        )

    async def _preset(self) -> str:
        name = f"preset-{next(self._number)}"
        response = await self._api.http.put(f"/v1/presets/{name}", json={"template": "x"}, headers=self._admin.headers)
        assert response.is_success, response.text
        return name
