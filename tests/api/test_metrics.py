"""`/metrics`: its values, its access, and the shipped Grafana dashboard, which queries no other metrics."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from support.agents import FINAL, Operator, agent_running, read_until, until
from support.api_calls import call_api
from support.cases import cases
from support.frames import HELLO_TEXT, attach, next_message
from support.server import running

from onsembl.sql.database import connect

DOCS = Path(__file__).resolve().parents[2] / "docs"


def samples(text: str) -> dict[str, float]:
    """A map from `name{label="value"}` to the value."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def scrape(api, **headers: str) -> dict[str, float]:
    response = await api.http.get("/metrics", headers=headers)
    assert response.status_code == 200, response.text
    return samples(response.text)


async def test_a_commands_way_is_counted(api, tmp_path):
    """The metrics count a command's wait, job and end, the bytes to a viewer, and the connected agents and viewers."""
    operator = Operator(api, await api.operator())
    async with agent_running(api, tmp_path) as agent, api.terminal_socket(agent.id) as viewer:
        await attach(viewer, operator.headers["Authorization"].removeprefix("Bearer "))
        text = "echo $((40 + 2)); until test -e go; do sleep 0.05; done; exit 3"
        command = await operator.send(agent.id, text, priority=2)

        async def taken_up() -> bool:
            return (await scrape(api))["onsembl_job_latency_seconds_count"] == 1

        await until(taken_up, "a worker has its job")
        (tmp_path / "go").touch()
        await read_until(viewer, b"exit 3 \xc2\xb7")
        await operator.until_state(command, *FINAL)
        seen = await scrape(api)
        assert seen["onsembl_agents_connected"] == seen["onsembl_viewers_connected"] == seen["onsembl_streams"] == 1
        assert seen["onsembl_ring_bytes"] > 0
        assert seen['onsembl_commands_ended_total{state="failed"}'] == 1
        assert seen['onsembl_command_wait_seconds_count{priority="2"}'] == 1
        assert seen["onsembl_job_latency_seconds_count"] == 1
        assert seen["onsembl_relay_latency_seconds_count"] >= 1
        assert seen['onsembl_pool_connections{pool="database"}'] > 0
        assert seen["onsembl_workers"] == 1 and seen["onsembl_jobs_startable"] == seen["onsembl_workers_wanted"] == 0


async def test_an_autoscaler_sees_what_the_document_shows(settings):
    """With as many jobs as in the example, `/metrics` and the list of workers are those of the example."""
    document = (DOCS / "deployment.md").read_text().partition("## Workers by an autoscaler")[2]
    text = document.partition("```text\n")[2].partition("```")[0]
    listed = json.loads(document.partition("```json\n")[2].partition("```")[0])
    async with running(replace(settings, worker=None)) as api:
        operator = Operator(api, await api.operator())
        async with await connect(api.database_url, autocommit=True) as conn:
            await conn.execute(
                "insert into procrastinate_jobs (queue_name, task_name) select 'q', 't' from generate_series(1, %s)",
                [listed["load"]],
            )
        assert samples(text).items() <= (await scrape(api)).items()
        assert await call_api(operator, "GET", "/v1/jobs/workers") == listed


async def test_what_waits_is_shown_by_priority(api):
    """The metrics show the queue's depth and the age of its oldest command by priority."""
    operator = Operator(api, await api.operator())
    agent = await api.enrol()
    for priority in (3, 3, 7):
        await operator.send(agent.id, "true", priority=priority)
    seen = await scrape(api)
    assert seen['onsembl_queue_depth{priority="3"}'] == 2
    assert seen['onsembl_queue_depth{priority="7"}'] == 1
    assert seen['onsembl_queue_oldest_seconds{priority="3"}'] >= seen['onsembl_queue_oldest_seconds{priority="7"}'] > 0
    assert seen['onsembl_commands{state="queued"}'] == 3


async def test_an_end_that_no_agent_reports_is_counted(api):
    """A queued command's cancellation is counted: alone, with its agent, with its group, by the emergency stop."""
    operator = Operator(api, await api.operator())
    agent = await api.enrol()

    async def counted() -> float:
        return (await scrape(api)).get('onsembl_commands_ended_total{state="cancelled"}', 0)

    async def post(path: str, body: dict) -> dict:
        response = await api.http.post(path, json=body, headers=operator.headers)
        assert response.is_success, response.text
        return response.json()

    await operator.cancel(await operator.send(agent.id, "alone"))
    assert await counted() == 1
    for text in ("one", "other"):
        await operator.send(agent.id, text)
    await post(f"/v1/agents/{agent.id}/cancel-all", {})
    assert await counted() == 3
    group = await post("/v1/groups", {"text": "together", "target": {"agents": [agent.id]}})
    await post(f"/v1/groups/{group['id']}/cancel", {})
    assert await counted() == 4
    await operator.send(agent.id, "stopped")
    await post("/v1/halt", {})
    assert await counted() == 5
    assert not any("command_wait_seconds_count" in name for name in await scrape(api))  # No command has started.


async def test_a_lost_command_is_counted(api):
    """A command is counted as lost when its agent returns without it or is disabled, and its wait ends."""
    operator = Operator(api, await api.operator())
    agent = await api.enrol()
    for count in (1, 2):
        async with api.agent_socket(agent) as socket:
            await socket.send(HELLO_TEXT)
            await next_message(socket, "welcome")
            command = await operator.send(agent.id, "begins")
            await next_message(socket, "offer")
            now = datetime.now(UTC).isoformat()
            accepted = {"type": "accepted", "command_id": command["id"], "started_at": now, "output_start": 0}
            await socket.send(json.dumps(accepted))
            await operator.until_state(command, "running")
        if count == 1:
            async with api.agent_socket(agent) as socket:
                await socket.send(HELLO_TEXT)
                await next_message(socket, "welcome")
        else:
            await api.http.post(f"/v1/agents/{agent.id}/disable", headers=operator.headers)
        seen = await scrape(api)
        assert seen['onsembl_commands_ended_total{state="lost"}'] == count
        assert seen['onsembl_command_wait_seconds_count{priority="5"}'] == count


async def test_refreshes_and_refusals_are_counted(api):
    """Refreshes are counted by outcome, rejections by endpoint."""
    agent = await api.enrol()
    await api.http.post("/v1/agents/token", headers={"Authorization": f"Bearer {agent.refresh_token}"})
    await api.http.post("/v1/agents/token", headers={"Authorization": "Bearer unknown"})
    seen = await scrape(api)
    assert seen['onsembl_token_refreshes_total{outcome="ok"}'] == 1
    assert seen['onsembl_token_refreshes_total{outcome="refused"}'] == 1
    assert seen['onsembl_refusals_total{door="POST /v1/agents/token"}'] == 1


async def test_bytes_that_wait_for_the_archive_are_shown_and_go(api):
    """The lag of the archive falls to zero once the bytes are written."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        await socket.send(bytes(8) + b"x" * 1000)

        async def written() -> bool:
            seen = await scrape(api)
            return seen["onsembl_ring_bytes"] == 1000 and seen["onsembl_archive_lag_bytes"] == 0

        await until(written, "the archive")


@cases("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Fly-Client-IP", "Via"])
async def test_what_came_through_a_proxy_is_not_this_machine(api, header):
    """A request through a local proxy is not local, so `/metrics` rejects it."""
    assert (await api.http.get("/metrics", headers={header: "203.0.113.9"})).status_code == 403


async def test_a_token_opens_them_to_other_machines_and_closes_them_here(settings):
    """If a metrics token is set, only requests with this token are answered, from any machine."""
    async with running(replace(settings, metrics_token="figures-please")) as api:
        assert (await api.http.get("/metrics")).status_code == 401
        assert (await api.http.get("/metrics", headers={"Authorization": "Bearer else"})).status_code == 401
        assert await scrape(api, Authorization="Bearer figures-please", Forwarded="for=203.0.113.9")


async def test_the_grafana_dashboard_asks_for_metrics_that_exist(api):
    """Each metric name in the dashboard's queries is served."""
    text = (await api.http.get("/metrics")).text
    served = {match[1] for match in re.finditer(r"^# TYPE (\w+) ", text, re.MULTILINE)}
    served |= {
        f"{match[1]}{end}"
        for match in re.finditer(r"^# TYPE (\w+) histogram", text, re.MULTILINE)
        for end in ("_bucket", "_count", "_sum")
    }
    panels = json.loads((DOCS / "grafana.json").read_text())["panels"]
    asked = {
        name
        for panel in panels
        for target in panel.get("targets", [])
        for name in re.findall(r"\b(?:onsembl|process)_\w+", target["expr"])
    }
    assert len(asked) > 15
    assert asked - served == set()
