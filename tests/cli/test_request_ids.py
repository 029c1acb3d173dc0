"""A request's id is in the logs of the API, the worker and the agent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
from support.agents import FINAL, Operator, agent_running, until
from support.control_center import ControlCenter, clean_environment
from support.forked import fork_onsembl
from support.no_secrets import leaks
from support.server import Api
from support.workers import job_of

REQUEST_ID = "deploy-4711"


def told(text: str) -> list[dict]:
    """The JSON lines of a log; earlier lines are for people."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def actions(text: str) -> list[str]:
    """The actions that were logged for the request."""
    return [line["action"] for line in told(text) if line.get("request_id") == REQUEST_ID]


async def taken_up(worker_log: Path, command: dict) -> bool:
    lines = worker_log.read_text().splitlines()
    return any("command_taken_up" in line and command["id"] in line for line in lines)


async def seen_through(database_url: str, command: dict) -> bool:
    job = await job_of(database_url, command)
    return job is not None and job["status"] == "succeeded"


async def test_a_request_is_found_in_the_log_of_each_process(database_url: str, tmp_path: Path):
    """The client's request id is in every line about the request, and in no other."""
    environment = clean_environment(DATABASE_URL=database_url, ONSEMBL_LOG_FORMAT="json")
    worker_log, agent_log = tmp_path / "worker.log", tmp_path / "agent.log"
    with (
        ControlCenter(tmp_path / "data", "--no-worker", environment=environment) as center,
        worker_log.open("w") as worker_file,
        agent_log.open("w") as agent_file,
    ):
        await asyncio.to_thread(center.ready)
        worker = await fork_onsembl("worker", env=environment, stderr=worker_file)
        try:
            async with httpx.AsyncClient(base_url=center.address, timeout=30) as http:
                api = Api(center.address, database_url, http)
                operator = Operator(api, await api.operator())
                async with agent_running(api, tmp_path, stderr=agent_file, env=environment) as agent:
                    other = await operator.send(agent.id, "true")
                    await operator.until_state(other, *FINAL)
                    # Its agent may be done before the worker is there; a job that waits then would make room.
                    await until(lambda: seen_through(database_url, other), "the worker has had its job")
                    operator.headers["X-Request-ID"] = REQUEST_ID
                    text = "echo of-the-terminal; until test -e go; do sleep 0.05; done"
                    command = await operator.send(agent.id, text)
                    del operator.headers["X-Request-ID"]
                    await until(lambda: taken_up(worker_log, command), "the worker has this one, too")
                    (tmp_path / "go").touch()
                    await operator.until_state(command, *FINAL)
                    await until(lambda: seen_through(database_url, command), "the worker has seen it through")
        finally:
            worker.terminate()
            await worker.wait()
    said = {"api": center.output, "worker": worker_log.read_text(), "agent": agent_log.read_text()}
    assert {"request", "offer_sent", "command_ended"} <= set(actions(said["api"]))
    assert actions(said["worker"])[:2] == ["command_taken_up", "command_seen_through"]
    assert actions(said["agent"]) == ["command_begun", "command_over"]
    for text in said.values():
        assert leaks(text, set()) == []
        assert "of-the-terminal" not in text
        of_it = [line for line in told(text) if line.get("command_id") == command["id"]]
        assert {line["request_id"] for line in of_it} == {REQUEST_ID}
        assert {line["request_id"] for line in told(text) if line.get("command_id") == other["id"]} == {
            other["request_id"]
        }
    for name in ("worker", "agent"):
        assert len(told(said[name])) == len(said[name].splitlines()), "some lines are no JSON"
