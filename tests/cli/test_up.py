"""`onsembl up` as a person meets it: it starts, starts again, and says in one paragraph what stands in its way."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import time
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from support.control_center import SECONDS, ControlCenter, clean_environment

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

PARAGRAPH = re.compile(r"\AError: [^\n]+\n\Z")
SIGN_IN = re.compile(r"Sign in with\s+(\S+)\s+and password\s+(\S+)")


def sign_in(center: ControlCenter, email: str, password: str) -> httpx.Response:
    return httpx.post(
        f"{center.address}/auth/v1/token?grant_type=password",
        json={"email": email, "password": password},
        headers={"apikey": center.get("/config.json").json()["supabase_key"]},
        timeout=SECONDS,
    )


def postmaster(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])


def test_the_first_start_shows_a_sign_in_that_works_and_later_ones_show_none(empty_folder: Path):
    """E-mail and password are printed once, and are still good after a restart, which is quick."""
    with ControlCenter(empty_folder) as first:
        first.ready()
        email, password = SIGN_IN.search(first.output).groups()
        assert sign_in(first, email, password).status_code == 200
        assert first.get("/readyz").status_code == 200
        assert "<title>" in first.get("/").text
    began = time.monotonic()
    with ControlCenter(empty_folder) as second:
        second.ready()
        print(f"ready again after {time.monotonic() - began:.2f} s")
        assert not SIGN_IN.search(second.output)
        assert sign_in(second, email, password).status_code == 200


def test_after_how_long_a_worker_is_dead_is_the_same_for_all(folder: Path):
    """`up` takes `--dead-after` as `worker` does: one that has been silent for a minute lives, if that is the usual."""
    with ControlCenter(folder, "--dead-after", "3600") as center:
        center.ready()
        with psycopg.connect(EmbeddedPostgres(folder).url(), autocommit=True) as conn:
            conn.execute(
                "insert into procrastinate.procrastinate_workers (last_heartbeat) values (now() - interval '1 minute')"
            )
        token = sign_in(center, *SIGN_IN.search(center.output).groups()).json()["access_token"]
        answer = httpx.get(f"{center.address}/v1/jobs/workers", headers={"authorization": f"Bearer {token}"})
        assert [worker["alive"] for worker in answer.json()["workers"]] == [True, True]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_everything_and_is_no_failure(folder: Path, how: signal.Signals):
    """After Ctrl-C or SIGTERM Postgres is gone too, shut down cleanly, and nothing was complained about."""
    center = ControlCenter(folder).ready()
    server = postmaster(folder)
    assert center.stop(how) == 0, center.output
    assert "Traceback" not in center.output
    assert "ERROR" not in center.output
    assert not psutil.pid_exists(server)
    assert not (folder / "postgres" / "postmaster.pid").exists()


def test_a_second_one_on_the_same_folder_names_the_first(folder: Path):
    """It ends with one paragraph that says which process runs and where, and the first goes on."""
    with ControlCenter(folder) as first:
        first.ready()
        with ControlCenter(folder) as second:
            assert second.wait() == 1
            assert PARAGRAPH.match(second.output), second.output
            assert f"process {first.process.pid}" in second.output
            assert first.address in second.output
        assert first.get("/readyz").status_code == 200


def test_a_start_after_a_kill_takes_the_running_postgres_over(folder: Path):
    """`kill -9` leaves Postgres running; the next start uses it, and stops it when it is stopped."""
    first = ControlCenter(folder).ready()
    server = postmaster(folder)
    first.stop(signal.SIGKILL)
    assert psutil.pid_exists(server)
    with ControlCenter(folder) as second:
        second.ready()
        assert postmaster(folder) == server
        assert second.get("/readyz").status_code == 200
    assert not psutil.pid_exists(server)


def test_a_start_after_everything_was_killed_recovers(folder: Path):
    """A Postgres that was killed a moment ago is started again, and recovers its data."""
    first = ControlCenter(folder).ready()
    server = postmaster(folder)
    first.stop(signal.SIGKILL)
    psutil.Process(server).kill()
    with ControlCenter(folder) as second:
        second.ready()
        assert postmaster(folder) != server
        assert not SIGN_IN.search(second.output)


def test_what_a_killed_postgres_left_is_no_obstacle(folder: Path):
    """One of its processes does not notice the death of the others: no other server could start beside it."""
    server = EmbeddedPostgres(folder)
    server.start()
    with psycopg.connect(server.url()) as conn:
        left = psutil.Process(conn.info.backend_pid)
        left.suspend()
        psutil.Process(server.pid).kill()
        with ControlCenter(folder) as center:
            center.ready()
            assert not left.is_running()


def test_a_database_that_comes_later_is_waited_for(empty_folder: Path, own_postgres: EmbeddedPostgres):
    """And it is said what is waited for."""
    own_postgres.stop()
    environment = clean_environment(DATABASE_URL=own_postgres.url())
    with ControlCenter(empty_folder, environment=environment) as center:
        center.wait_for("Waiting for the database")
        own_postgres.start()
        center.ready()


def test_a_lock_file_that_names_a_stranger_is_stale(folder: Path, postgres: EmbeddedPostgres):
    """The number in the lock file may have gone to another program since: it is left alone, and no obstacle."""
    (folder / "postgres" / "postmaster.pid").write_text(f"{postgres.pid}\n{folder / 'postgres'}\n0\n5432\n")
    with ControlCenter(folder) as center:
        center.ready()
    assert psutil.pid_exists(postgres.pid)


def test_an_interrupted_first_start_is_made_good(empty_folder: Path):
    """A cluster that was half made when the machine went down is made anew."""
    half = empty_folder / "postgres.partial"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with ControlCenter(empty_folder) as center:
        center.ready()


def test_the_demo_agent_is_there_at_every_start_and_gone_with_each(folder: Path):
    """Also after a kill, at another address, and when its own folder was lost."""

    def demo_agents() -> list[psutil.Process]:
        return [process for process in psutil.process_iter(["cmdline"]) if _is_demo(process, folder)]

    def online(center: ControlCenter, email: str, password: str, before: str | None = None) -> str:
        """Wait until it is, by another connection than `before`, which a kill leaves in its row; since when."""
        token = sign_in(center, email, password).json()["access_token"]
        deadline = time.monotonic() + SECONDS
        while True:
            answer = center.get("/v1/agents", Authorization=f"Bearer {token}").json()
            if [(agent["name"], agent["status"]) for agent in answer["agents"]] == [("demo", "online")]:
                since = answer["agents"][0]["connected_at"]
                if since != before:
                    return since
            assert time.monotonic() < deadline, answer
            time.sleep(0.05)

    first = ControlCenter(folder, "--demo").ready()
    email, password = SIGN_IN.search(first.output).groups()
    since = online(first, email, password)
    first.stop(signal.SIGKILL)
    assert len(demo_agents()) == 1
    with ControlCenter(folder, "--demo") as second:
        since = online(second.ready(), email, password, since)
        assert len(demo_agents()) == 1
    assert demo_agents() == []
    shutil.rmtree(folder / "demo")
    with ControlCenter(folder, "--demo") as third:
        online(third.ready(), email, password, since)
    assert demo_agents() == []


def _is_demo(process: psutil.Process, folder: Path) -> bool:
    command = process.info["cmdline"] or []
    return "agent" in command and str(folder / "demo" / "agents") in command


@pytest.mark.parametrize("host", ["0.0.0.0", "::1"])
def test_it_listens_where_it_is_told(folder: Path, host: str):
    """The address that it names is one that a browser on this machine can open."""
    with ControlCenter(folder, "--host", host) as center:
        center.ready()
        assert center.get("/readyz").status_code == 200


def test_a_taken_port_is_named(empty_folder: Path):
    """One paragraph with the port and what to do, before anything is made."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with ControlCenter(empty_folder, port=port) as center:
            assert center.wait() == 1
    assert PARAGRAPH.match(center.output), center.output
    assert str(port) in center.output
    assert "--port" in center.output
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_named(empty_folder: Path, host: str):
    """A name that does not resolve, or another machine's address."""
    with ControlCenter(empty_folder, "--host", host) as center:
        assert center.wait() == 1
    assert PARAGRAPH.match(center.output), center.output
    assert host in center.output


@pytest.mark.parametrize("path", ["/proc/onsembl", "{folder}/file/inside"])
def test_a_folder_that_cannot_be_written_is_named(empty_folder: Path, path: str):
    """One paragraph with the folder and what to do."""
    (empty_folder / "file").touch()
    path = path.format(folder=empty_folder)
    with ControlCenter(Path(path)) as center:
        assert center.wait() == 1
    assert PARAGRAPH.match(center.output), center.output
    assert path in center.output
    assert "--data-dir" in center.output


def test_a_database_that_does_not_answer_is_named_without_its_password(empty_folder: Path):
    """The address is shown as far as it is no secret."""
    with socket.socket() as held:  # so that nobody else listens there
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        url = f"postgresql://somebody:hidden@127.0.0.1:{port}/onsembl"
        environment = clean_environment(DATABASE_URL=url)
        with ControlCenter(empty_folder, "--database-wait", "0", environment=environment) as center:
            assert center.wait() == 1
    assert center.output.startswith("Error: ")
    assert "Traceback" not in center.output
    assert str(port) in center.output
    assert "hidden" not in center.output


def test_a_database_of_ones_own_is_used_instead_of_the_embedded_one(empty_folder: Path, database_url: str):
    """With DATABASE_URL no Postgres is made."""
    with ControlCenter(empty_folder, environment=clean_environment(DATABASE_URL=database_url)) as center:
        center.ready()
        assert center.get("/readyz").status_code == 200
    assert not (empty_folder / "postgres").exists()
