"""Fixtures for every test: a real Postgres, shared by all, and a fresh database for each test that asks."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import hypothesis
import psycopg
import pytest
import uvloop
from support.cheap import make_cheap
from support.databases import fresh_database
from support.folders import copy_folder, data_folder, remove_abandoned_folders
from support.forked import share_server
from support.log_levels import log_levels_kept
from support.no_secrets import pytest_runtest_makereport, remember_tokens
from support.page import built_page
from support.postgres import server_of
from support.time_limit import (
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_runtest_teardown,
    pytest_timeout_set_timer,
)
from xdist.workermanage import WorkerController

from onsembl.cli.errors import CliError
from onsembl.cli.server.dashboard_build import DashboardNotBuilt
from onsembl.cli.server.embedded_postgres import DATABASE, EmbeddedPostgres
from onsembl.sql.migrate import migrate

LONG_FORMS = ("soak", "load", "package", "clis")
PROCESSES_PER_CORE = 2.5
"""Most tests wait for other processes half of their time."""
SHARED = "ONSEMBL_TEST_FOLDER"
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "500",
    "max_wal_senders": "50",
    "max_replication_slots": "50",
}
TEMPLATE = "template_onsembl"
COMPILED = "onsembl/compiled_at"
GARBAGE = 7_000
"""The objects after which the garbage collector runs: ten times those of Python, for a megabyte more of memory."""
FEW_FILES = 20
"""So many changed files each process may compile for itself."""

# How long an example takes says more of the machine's load than of the code.
hypothesis.settings.register_profile("loaded", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("loaded")


__all__ = [  # pytest finds them here
    "pytest_runtest_call",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
    "pytest_timeout_set_timer",
]
remember_tokens()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all", action="store_true", help="also run the long forms: what is marked " + ", ".join(LONG_FORMS)
    )
    parser.addoption("--seed", type=int, help="the seed of the random faults, which a run of them prints")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of the test's random choices; the output of a failed test shows it."""
    given: int | None = request.config.getoption("--seed")
    seed = random.SystemRandom().randrange(10**6) if given is None else given
    print(f"--seed {seed}")
    return seed


@pytest.fixture(autouse=True)
def _log_levels() -> Iterator[None]:
    with log_levels_kept():
        yield


@pytest.fixture(scope="session")
def _asyncio_loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Run asynchronous tests in the event loop of the server's processes, which takes half of the time of asyncio's.

    This replaces a fixture of pytest-asyncio, whose hook for the same makes it a parameter of each test. With the end
    of a parameter the loops of all scopes end, and the session's browser with them: it would start thirty times a run.
    """
    return getattr(request, "param", uvloop.new_event_loop)  # a folder's hook gives the parameter


def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means."""
    return round(PROCESSES_PER_CORE * (os.cpu_count() or 1))


def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Before a whole run has several processes, compile the tests, make the cluster, and start the forking server.

    Otherwise each process compiles every module for itself, and waits for the cluster. The page is built meanwhile, and
    while the processes collect the tests: most of the time that takes one core.
    """
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    share_server()
    config.stash[_BUILDING] = building = threading.Thread(target=_build_page)
    building.start()
    with _compiled(config):
        _migrated_server()


def _build_page() -> None:
    with suppress(DashboardNotBuilt, CliError):  # which the tests of the page report
        built_page()


def pytest_xdist_node_collection_finished(node: WorkerController) -> None:
    """Begin no test before the page is built: on a busy machine that takes longer than the tests of the page may."""
    if (building := node.config.stash.get(_BUILDING, None)) is not None:
        building.join()


@contextmanager
def _compiled(config: pytest.Config) -> Iterator[None]:
    """Compile the tests meanwhile, unless an earlier run has compiled nearly all of them."""
    now = time.time()
    compiled_at: float = config.cache.get(COMPILED, 0.0)
    changed = [file for file in Path(__file__).parent.rglob("*.py") if file.stat().st_mtime > compiled_at]
    if len(changed) <= FEW_FILES:
        yield
        return
    command = [sys.executable, "-m", "pytest", *sys.argv[1:], "--collect-only", "-n", "0", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    compiling = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield
    if compiling.wait() == 0:
        config.cache.set(COMPILED, now)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from the objects of a thousand modules, which all live to the end of the run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(GARBAGE)
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long forms to `--all`. Put the tests of agents first, because they end the session's browser, then long
    tests, so that no process ends with one alone, and then files of each folder in turn: those of the browser keep the
    processor busy while others wait."""
    if not config.getoption("--all"):
        config.hook.pytest_deselected(items=[item for item in items if _is_long_form(item)])
        items[:] = [item for item in items if not _is_long_form(item)]
    files = dict.fromkeys(item.path for item in items)
    places: dict[Path, float] = {}
    for _, group in itertools.groupby(sorted(files, key=_folder), key=_folder):
        folder = list(group)
        places |= {file: place / len(folder) for place, file in enumerate(folder)}
    items.sort(key=lambda item: (_folder(item.path) != "agent", -_seconds(item), places[item.path]))


def _folder(file: Path) -> str:
    """The folder of `tests` that has the file; "" of a file in `tests` itself."""
    return file.relative_to(Path(__file__).parent).parts[0] if file.parent != Path(__file__).parent else ""


def _is_long_form(item: pytest.Item) -> bool:
    return any(map(item.get_closest_marker, LONG_FORMS))


def _seconds(item: pytest.Item) -> float:
    """How long the test takes by its mark `seconds`; 0 without one."""
    mark = item.get_closest_marker("seconds")
    return mark.args[0] if mark else 0.0


def pytest_configure(config: pytest.Config) -> None:
    """The first process of the run names the folder that all of its workers share."""
    if SHARED not in os.environ:
        remove_abandoned_folders()
        config.stash[_OWNED] = owned = ExitStack()
        os.environ[SHARED] = str(owned.enter_context(data_folder()))
        owned.callback(os.environ.pop, SHARED)
        owned.callback(_stop_shared_server)
    make_cheap()
    os.environ["ONSEMBL_KEYRING"] = "off"  # no test writes to the keyring of the person who runs it
    _ignore_no_signal()
    _keep_bytecode(config)


def _ignore_no_signal() -> None:
    """Have started processes, the server that forks them included, react to a hangup and an interrupt also when the
    tests run under `nohup` or in the background of a shell: unlike an ignored signal, a handler that does nothing is
    not inherited."""
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def _keep_bytecode(config: pytest.Config) -> None:
    """Keep compiled modules beside pytest's cache where the environment forbids to keep them in the tree: else each
    process that a test starts compiles a thousand modules again."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None) is not None and getattr(config, "cache", None):
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(config.cache.mkdir("bytecode"))
        sys.dont_write_bytecode = False


def pytest_unconfigure(config: pytest.Config) -> None:
    if (owned := config.stash.get(_OWNED, None)) is not None:
        owned.close()


def _stop_shared_server() -> None:
    folder = Path(os.environ[SHARED]) / "shared"
    if folder.exists():
        server = server_of(folder, FAST)
        server.start()  # takes over the one that a worker started
        server.stop(signal.SIGQUIT)


_OWNED = pytest.StashKey[ExitStack]()
_BUILDING = pytest.StashKey[threading.Thread]()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _migrated(name: str, kind: type[EmbeddedPostgres]) -> Path:
    """A data folder with a migrated database, made once a run."""
    folder = Path(os.environ[SHARED])
    made = folder / name
    with _locked(folder / "lock"):
        if not made.exists():
            partial = made.with_suffix(".partial")
            server = kind(partial, FAST)
            server.start()
            asyncio.run(migrate(server.url(), builtin_supabase=True))
            with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
                conn.execute(f"create database {TEMPLATE} template {DATABASE}")
                _make_sign_in_cheap(conn)
            server.stop()
            partial.rename(made)
    return made


@pytest.fixture(scope="session")
def cluster() -> Path:
    """A data folder of the embedded Postgres with a migrated database, which does not run: to copy, not to change."""
    return _migrated("cluster", EmbeddedPostgres)


@pytest.fixture(scope="session")
def server_cluster() -> Path:
    """The same of the Postgres that tests run on, which may be an installed one of another version."""
    return _migrated_server()


def _migrated_server() -> Path:
    return _migrated("cluster" if server_of is EmbeddedPostgres else "installed-cluster", server_of)


def _make_sign_in_cheap(conn: psycopg.Connection) -> None:
    """Of the tests' thousands of connections, each would hash the password 4,096 times at both ends."""
    if conn.info.server_version >= 160000:  # the first that can
        conn.execute("set scram_iterations = 1")
        change = psycopg.sql.SQL("alter role {} password {}")
        conn.execute(change.format(psycopg.sql.Identifier(conn.info.user), conn.info.password))


@pytest.fixture(scope="session")
def postgres(server_cluster: Path) -> EmbeddedPostgres:
    """The server that all tests of the run share; it holds a migrated template."""
    folder = Path(os.environ[SHARED])
    with _locked(folder / "lock"):
        new = not (folder / "shared").exists()
        if new:
            copy_folder(server_cluster, folder / "shared")
        server = server_of(folder / "shared", FAST)
        server.start()
        if new:  # The first connection writes a cache of the catalogue, which each copy then has.
            psycopg.connect(server.url(TEMPLATE)).close()
    return server


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A fresh, migrated database of the test's own."""
    with fresh_database(postgres, TEMPLATE) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A fresh database of the test's own with nothing in it; the server has the roles."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def own_postgres(server_cluster: Path) -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, to stop, kill and start again; its database is migrated."""
    with data_folder() as folder:
        copy_folder(server_cluster, folder)
        server = server_of(folder, FAST)
        server.start()
        yield server
        server.stop(signal.SIGQUIT)
