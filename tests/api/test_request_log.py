"""Each request has an id and one line in the log."""

from __future__ import annotations

import logging
from uuid import UUID

import pytest
from support.agents import Operator
from support.cases import cases

pytestmark = pytest.mark.no_worker

HEADER = "X-Request-ID"


def lines(caplog, **wanted) -> list[logging.LogRecord]:
    """The log's lines about requests, those with these fields."""
    found = [record for record in caplog.records if getattr(record, "action", None) == "request"]
    return [record for record in found if all(getattr(record, name) == value for name, value in wanted.items())]


async def test_a_clients_id_is_answered_and_kept_with_its_command(api):
    """The client's request id, or a new id, is in the answer's header and on the command's row."""
    operator = Operator(api, await api.operator())
    agent = await api.enrol()
    path = f"/v1/agents/{agent.id}/commands"
    given = await api.http.post(path, json={"text": "ls"}, headers={**operator.headers, HEADER: "deploy-4711"})
    assert given.headers[HEADER] == given.json()["request_id"] == "deploy-4711"
    made = await api.http.post(path, json={"text": "ls"}, headers=operator.headers)
    assert made.headers[HEADER] == made.json()["request_id"] == str(UUID(made.headers[HEADER]))
    assert (await operator.read(made.json()))["request_id"] == made.headers[HEADER]


async def test_the_commands_of_a_group_share_it(api):
    """All commands of a group have the id of their request."""
    operator = Operator(api, await api.operator())
    for name in ("one", "two"):
        await api.enrol(name)
    response = await api.http.post(
        "/v1/groups", json={"text": "ls", "target": {"all": True}}, headers={**operator.headers, HEADER: "to-all"}
    )
    assert [command["request_id"] for command in response.json()["commands"]] == ["to-all", "to-all"]


@cases("bad", [b"x" * 129, b"a b", b"a\x1b[31m", b"\xff", b"-a", b'{"a":1}', b""])
async def test_an_id_that_is_not_well_formed_is_replaced(api, bad):
    """An invalid request id is neither answered nor logged."""
    response = await api.http.get("/healthz", headers=[(HEADER.encode(), bad)])
    if response.status_code == 200:
        UUID(response.headers[HEADER])
    else:  # Some of these values are not valid in a header.
        assert response.status_code == 400


async def test_two_ids_are_none(api):
    """A request with two ids gets a new id."""
    response = await api.http.get("/healthz", headers=[(HEADER, "a"), (HEADER, "b")])
    UUID(response.headers[HEADER])


async def test_a_request_is_one_line_without_its_query(api, caplog):
    """A request is one line with method, path, status, milliseconds and address, without the query."""
    await api.http.get("/v1/no%0Asuch?token=secret", headers={HEADER: "one"})
    (record,) = lines(caplog, path="/v1/no%0Asuch")
    assert (record.method, record.status, record.client) == ("GET", 404, "127.0.0.1")
    assert 0 < record.duration_ms < 60_000
    assert "secret" not in record.getMessage()
    assert "\n" not in record.getMessage()


async def test_what_is_asked_all_the_time_is_a_detail(api, caplog):
    """Requests for metrics and health are logged at level `debug` only."""
    for path in ("/metrics", "/healthz", "/readyz"):
        await api.http.get(path)
        assert lines(caplog, path=path) == []
    with caplog.at_level(logging.DEBUG, "onsembl"):
        await api.http.get("/healthz")
    assert len(lines(caplog, path="/healthz")) == 1


async def test_an_error_names_the_id(api, monkeypatch, caplog):
    """An error has the request id in the header, in the problem document and in the log."""
    operator = Operator(api, await api.operator())

    async def fails(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("onsembl.sql.agents.list_agents", fails)
    response = await api.http.get("/v1/agents", headers={**operator.headers, HEADER: "broken-1"})
    assert response.status_code == 500
    assert response.headers[HEADER] == response.json()["request_id"] == "broken-1"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert len(lines(caplog, path="/v1/agents", status=500)) == 1
