"""`onsembl up`: it starts, restarts, recovers, and reports each obstacle in one paragraph."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import stat
import sys
import time
from collections.abc import Collection
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from support.control_center import COMMAND, SECONDS, ControlCenter, clean_environment
from support.disks import mounted_disk
from support.folders import copy_folder

from onsembl.cli.server.demo import FLEET
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.cli.server.ended import has_ended

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


def runs(pid: int) -> bool:
    """Whether the process runs; on some machines the parent of one that has ended waits for it only later."""
    return psutil.pid_exists(pid) and not has_ended(psutil.Process(pid))


def stops_cleanly(center: ControlCenter, folder: Path, how: signal.Signals) -> None:
    """Postgres has shut down cleanly, and no error was printed."""
    server = postmaster(folder)
    assert center.stop(how) == 0, center.output
    assert "Traceback" not in center.output
    assert "ERROR" not in center.output
    assert not runs(server)
    assert not (folder / "postgres" / "postmaster.pid").exists()


@pytest.mark.seconds(4)
def test_only_the_first_start_prints_a_password(empty_folder: Path):
    """The e-mail address and password are printed once and work after a restart, which is quick. Ctrl-C and SIGTERM
    end everything cleanly."""
    with ControlCenter(empty_folder, command=COMMAND) as first:
        first.ready()
        email, password = SIGN_IN.search(first.output).groups()
        assert sign_in(first, email, password).status_code == 200
        assert first.get("/readyz").status_code == 200
        assert "<title>" in first.get("/").text
        stops_cleanly(first, empty_folder, signal.SIGINT)
    began = time.monotonic()
    with ControlCenter(empty_folder, command=COMMAND) as second:
        second.ready()
        print(f"ready again after {time.monotonic() - began:.2f} s")
        assert not SIGN_IN.search(second.output)
        assert sign_in(second, email, password).status_code == 200
        stops_cleanly(second, empty_folder, signal.SIGTERM)


def test_up_takes_dead_after(folder: Path):
    """With --dead-after above a minute, a worker without a heartbeat for a minute counts as alive."""
    with ControlCenter(folder, "--dead-after", "3600") as center:
        center.ready()
        with psycopg.connect(EmbeddedPostgres(folder).url(), autocommit=True) as conn:
            conn.execute(
                "insert into procrastinate.procrastinate_workers (last_heartbeat) values (now() - interval '1 minute')"
            )
        token = sign_in(center, *SIGN_IN.search(center.output).groups()).json()["access_token"]
        answer = httpx.get(f"{center.address}/v1/jobs/workers", headers={"authorization": f"Bearer {token}"})
        assert [worker["alive"] for worker in answer.json()["workers"]] == [True, True]


def test_a_second_start_on_the_same_folder_is_rejected(folder: Path):
    """The error names the process and address of the first, which continues."""
    with ControlCenter(folder) as first:
        first.ready()
        with ControlCenter(folder) as second:
            assert second.wait() == 1
            assert PARAGRAPH.match(second.output), second.output
            assert f"process {first.process.pid}" in second.output
            assert first.address in second.output
        assert first.get("/readyz").status_code == 200


def test_a_start_after_a_kill_takes_over_postgres(folder: Path):
    """kill -9 leaves Postgres running; the next start uses and later stops it."""
    first = ControlCenter(folder).ready()
    server = postmaster(folder)
    first.stop(signal.SIGKILL)
    assert runs(server)
    with ControlCenter(folder) as second:
        second.ready()
        assert postmaster(folder) == server
        assert second.get("/readyz").status_code == 200
    assert not runs(server)


def test_a_start_after_a_kill_of_postgres_recovers(folder: Path):
    """A killed Postgres is started again and recovers its data."""
    first = ControlCenter(folder).ready()
    server = postmaster(folder)
    first.stop(signal.SIGKILL)
    psutil.Process(server).kill()
    with ControlCenter(folder) as second:
        second.ready()
        assert postmaster(folder) != server
        assert not SIGN_IN.search(second.output)


def test_remaining_processes_of_a_killed_postgres_are_ended(folder: Path):
    """A suspended Postgres process, beside which no server could start, is ended."""
    server = EmbeddedPostgres(folder)
    server.start()
    with psycopg.connect(server.url()) as conn:
        left = psutil.Process(conn.info.backend_pid)
        left.suspend()
        psutil.Process(server.pid).kill()
        with ControlCenter(folder) as center:
            center.ready()
            assert has_ended(left)


def test_a_start_waits_for_the_database(empty_folder: Path, own_postgres: EmbeddedPostgres):
    """The start says that it waits for the database."""
    own_postgres.stop()
    environment = clean_environment(DATABASE_URL=own_postgres.url())
    with ControlCenter(empty_folder, environment=environment) as center:
        center.wait_for("Waiting for the database")
        own_postgres.start()
        center.ready()


def test_a_lock_file_of_another_process_is_stale(folder: Path, postgres: EmbeddedPostgres):
    """If the process id in the lock file belongs to another program, that program continues and the start works."""
    (folder / "postgres" / "postmaster.pid").write_text(f"{postgres.pid}\n{folder / 'postgres'}\n0\n5432\n")
    with ControlCenter(folder) as center:
        center.ready()
    assert runs(postgres.pid)


def test_an_interrupted_first_start_is_repeated(empty_folder: Path):
    """A half-created cluster is created again."""
    half = empty_folder / "postgres.partial"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with ControlCenter(empty_folder) as center:
        center.ready()


@pytest.mark.seconds(12)
def test_the_demo_starts_and_stops_with_the_server(folder: Path):
    """The demo's agents are online after a kill, at another address, and after their folder was deleted."""

    def demo_agents() -> list[psutil.Process]:
        found = [process for process in psutil.process_iter(["cmdline", "ppid"]) if _is_demo(process, folder)]
        # A program that an agent starts has the agent's arguments until its own replace them.
        agents = {process.pid for process in found}
        return [process for process in found if process.info["ppid"] not in agents]

    def online(center: ControlCenter, email: str, password: str, before: Collection[str] = ()) -> set[str]:
        """Wait until all are, by other connections than `before`, which a kill leaves in their rows; since when."""
        token = sign_in(center, email, password).json()["access_token"]
        deadline = time.monotonic() + SECONDS
        while True:
            answer = center.get("/v1/agents", Authorization=f"Bearer {token}").json()
            since = {agent["connected_at"] for agent in answer["agents"] if agent["status"] == "online"}
            if len(since) == len(FLEET) == len(answer["agents"]) and since.isdisjoint(before):
                return since
            assert time.monotonic() < deadline, answer
            time.sleep(0.2)  # they take seconds, and each look takes from their time

    first = ControlCenter(folder, "--demo").ready()
    email, password = SIGN_IN.search(first.output).groups()
    since = online(first, email, password)
    first.stop(signal.SIGKILL)
    assert len(demo_agents()) == len(FLEET)
    with ControlCenter(folder, "--demo") as second:
        since = online(second.ready(), email, password, since)
        assert len(demo_agents()) == len(FLEET)
    assert demo_agents() == []
    shutil.rmtree(folder / "demo")
    with ControlCenter(folder, "--demo") as third:
        online(third.ready(), email, password, since)
    assert demo_agents() == []


def _is_demo(process: psutil.Process, folder: Path) -> bool:
    command = process.info["cmdline"] or []
    return "agent" in command and str(folder / "demo" / "agents") in command


@pytest.mark.parametrize("host", ["0.0.0.0", "::1"])
def test_up_listens_on_the_given_address(folder: Path, host: str):
    """A browser on this machine can open the printed address."""
    with ControlCenter(folder, "--host", host) as center:
        center.ready()
        assert center.get("/readyz").status_code == 200


def test_a_taken_port_is_reported(empty_folder: Path):
    """The error names the port and the option, and nothing is created."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with ControlCenter(empty_folder, port=port) as center:
            assert center.wait() == 1
    assert PARAGRAPH.match(center.output), center.output
    assert str(port) in center.output
    assert "--port" in center.output
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_foreign_address_is_reported(empty_folder: Path, host: str):
    """The error names an unknown host, or the address of another machine."""
    with ControlCenter(empty_folder, "--host", host) as center:
        assert center.wait() == 1
    assert PARAGRAPH.match(center.output), center.output
    assert host in center.output


@pytest.mark.parametrize("path", ["/proc/onsembl", "{folder}/file/inside"])
def test_a_folder_that_cannot_be_written_is_reported(empty_folder: Path, path: str):
    """The error names the folder and the option."""
    (empty_folder / "file").touch()
    path = path.format(folder=empty_folder)
    with ControlCenter(Path(path)) as center:
        assert center.wait() == 1
    assert PARAGRAPH.match(center.output), center.output
    assert path in center.output
    assert "--data-dir" in center.output


def test_an_unreachable_database_is_reported_without_its_password(empty_folder: Path):
    """The error has the port, and not the password."""
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


def test_an_own_database_replaces_the_embedded_one(empty_folder: Path, database_url: str):
    """With DATABASE_URL, no embedded Postgres is created."""
    with ControlCenter(empty_folder, environment=clean_environment(DATABASE_URL=database_url)) as center:
        center.ready()
        assert center.get("/readyz").status_code == 200
    assert not (empty_folder / "postgres").exists()


THREE_FAILURES = (
    "from onsembl.cli.main import main; from onsembl.protocol.restarts import RestartPolicy;"
    "RestartPolicy.__init__.__kwdefaults__['attempts'] = 3; main(prog_name='onsembl')"
)


@pytest.mark.seconds(8)
def test_up_starts_a_killed_postgres_again_or_exits(folder: Path):
    """After a kill of its Postgres the same process answers again. When Postgres cannot start, it exits with code 1."""
    with ControlCenter(folder, command=(sys.executable, "-c", THREE_FAILURES)) as center:
        center.ready()
        server = postmaster(folder)
        psutil.Process(server).kill()
        center.wait_for("Postgres runs again")
        assert postmaster(folder) != server
        wait_for_readiness(center, 200)
        assert stat.S_IMODE((folder / "postgres.log").stat().st_mode) == 0o600
        version = folder / "postgres" / "PG_VERSION"
        version.rename(folder / "version")
        psutil.Process(postmaster(folder)).kill()
        assert center.wait() == 1
        assert "Error: The control center has stopped: Postgres fails again" in center.output
        (folder / "version").rename(version)


def test_a_lock_file_without_a_process_id_is_stale(folder: Path):
    """A lock file that a full disk has cut off does not keep Postgres from starting."""
    (folder / "postgres" / "postmaster.pid").touch()
    server = EmbeddedPostgres(folder)
    server.start()
    server.stop(signal.SIGQUIT)


def wait_for_readiness(center: ControlCenter, status: int) -> None:
    """Wait until `/readyz` answers with this status."""
    deadline = time.monotonic() + SECONDS
    while (answer := center.get("/readyz")).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def test_up_recovers_when_its_full_disk_has_room_again(cluster: Path):
    """While the disk is full `/readyz` is false; a Postgres that crashes on it runs again once there is room."""
    with mounted_disk(160) as disk:
        folder = disk.path / "data"
        copy_folder(cluster, folder)
        with ControlCenter(folder) as center:
            center.ready()
            server = postmaster(folder)
            with disk.filled():
                wait_for_readiness(center, 503)
                crash_by_writes(folder)
                center.wait_for("pg_ctl failed")
                assert center.get("/readyz").status_code == 503
                assert center.get("/healthz").status_code == 200
            center.wait_for("Postgres runs again")
            wait_for_readiness(center, 200)
            assert postmaster(folder) != server
            assert center.stop() == 0


def crash_by_writes(folder: Path) -> None:
    """Write to the write-ahead log until Postgres crashes, for want of room."""
    with pytest.raises(psycopg.OperationalError), psycopg.connect(EmbeddedPostgres(folder).url()) as conn:
        while True:
            conn.execute("select pg_logical_emit_message(false, 'test', repeat('x', 1000000))")
