"""The fleet of the pictures: who the agents are, what they do, and what their terminals have shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from onsembl.agent.rendering.turn import TurnRenderer
from onsembl.protocol.attention_messages import (
    PermissionBody,
    PlanBody,
    Question,
    QuestionBody,
    QuestionOption,
    RequestBody,
)
from onsembl.protocol.states import AgentKind
from onsembl.protocol.turn_events import (
    Diff,
    MessageChunk,
    MessageEnded,
    Plan,
    PlanEntry,
    PlanStatus,
    ToolCall,
    ToolCallEnded,
    ToolKind,
    TurnEnded,
    TurnEvent,
    TurnStarted,
)
from onsembl.protocol.usage import Usage

State = Literal["succeeded", "failed", "cancelled", "working", "waiting", "limited", "problem", "paused", "offline"]
"""What an agent does; an idle one by the state of its last command."""
COLUMNS, ROWS = 110, 34
MODELS = {"claude": "claude-opus-4-8", "codex": "gpt-5.2-codex", "gemini": "gemini-3-pro", "acp": "qwen3-coder"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturedAgent:
    """One agent. `minutes` is how long ago its last command began, and `text` what that command is."""

    name: str
    kind: AgentKind
    labels: Sequence[str]
    host: str
    state: State
    text: str
    minutes: float
    shown: str
    """What the terminal has shown."""
    queued: Sequence[str] = ()
    asks: tuple[str, RequestBody] | None = None
    cli: str | None = None


# What terminals show

RED, GREEN, YELLOW, BLUE, CYAN, DIM, BOLD, END = (f"\x1b[{code}m" for code in (31, 32, 33, 34, 36, 2, 1, 0))


def say(text: str) -> list[TurnEvent]:
    return [MessageChunk(speaker="agent", text=text), MessageEnded()]


def call(
    kind: ToolKind, name: str, title: str, result: str | None, *diffs: Diff, failed: bool = False
) -> list[TurnEvent]:
    """A call of a tool with its result; with None it has not ended yet."""
    identity = f"{name} {title}"
    began = ToolCall(id=identity, name=name, kind=kind, title=title, arguments="{}", diffs=list(diffs))
    ended = [ToolCallEnded(id=identity, status="failed" if failed else "completed", text=result)] if result else []
    return [began, *ended]


def plan(done: int, *tasks: str) -> list[TurnEvent]:
    states: list[PlanStatus] = ["completed"] * done + ["in_progress"] + ["pending"] * len(tasks)
    return [Plan(entries=[PlanEntry(content=text, status=states[number]) for number, text in enumerate(tasks)])]


def turn(kind: str, folder: str, *events: list[TurnEvent], seconds: float | None = None, tokens: int = 0) -> str:
    """A turn as agents show it; without `seconds` it has not ended yet."""
    renderer = TurnRenderer(lambda: COLUMNS)
    began = TurnStarted(conversation="c", model=MODELS[kind], folder=folder, permission_mode="ask", version="1")
    told: list[TurnEvent] = [began, *(event for part in events for event in part)]
    if seconds is not None:
        usage = Usage(input_tokens=tokens, output_tokens=tokens // 8, cost_usd=tokens * 7e-6)
        told.append(TurnEnded(outcome="completed", seconds=seconds, usage=usage))
    return "".join(renderer.render(event) for event in told) + renderer.close()


def prompted(text: str) -> str:
    return f"{GREEN}ada@build{END}:{BLUE}~/shop{END}$ {text}\n"


def tests(part: str, count: int, failed: str = "") -> str:
    rows = []
    for number in range(count):
        percent = (number + 1) * 100 // count
        name = f"{part}/test_{CASES[(number * 5 + len(part)) % len(CASES)]}.py"
        dots = "." * (11 + number * 7 % 19)
        mark = f"{RED}F{END}" if name.endswith(f"test_{failed}.py") else ""
        space = " " * (62 - len(name) - len(dots) - (mark != ""))
        rows.append(f"{name} {GREEN}{dots}{END}{mark}{space}[{percent:3d}%]\n")
    return f"{BOLD}collected {count * 21} items{END}\n\n" + "".join(rows)


CASES = (
    *("accounts", "baskets", "catalogue", "checkout", "coupons", "currency", "delivery", "invoices", "mail", "orders"),
    *("payments", "prices", "refunds", "returns", "search", "sessions", "stock", "taxes", "users", "webhooks"),
)
INVOICE = Diff(
    path="billing/vat.py",
    old="def vat(amount: Decimal, rate: Decimal) -> Decimal:\n    return round(amount * rate, 2)\n",
    new=(
        "def vat(amount: Decimal, rate: Decimal) -> Decimal:\n"
        '    """Exact; the invoice rounds its total once."""\n    return amount * rate\n'
    ),
)
RETRY = Diff(
    path="api/webhooks.py",
    old="    for attempt in range(3):\n        deliver(event)\n",
    new=(
        "    for attempt, pause in enumerate(backoff(first=0.5, most=60)):\n"
        "        if deliver(event):\n            return\n        sleep(pause)\n"
    ),
)
FLAKY = turn(
    "claude",
    "/srv/shop/checkout",
    say("The test fails in one run of twelve. I run it until it does, and look at the order of the events."),
    plan(1, "Reproduce the failure", "Find what is not awaited", "Fix it and run the test 200 times"),
    call(
        "execute",
        "Bash",
        "pytest tests/test_checkout.py -q -x --count 40",
        (
            "....................F\nE   assert order.state == 'paid'\nE     - paid\n"
            "E     + pending\n1 failed, 20 passed in 9.84s"
        ),
        failed=True,
    ),
    call(
        "search",
        "Grep",
        "create_task( in checkout/",
        (
            "checkout/events.py:71:        asyncio.create_task(self._notify(order))\n"
            "checkout/events.py:88:        self._tasks.add(asyncio.create_task(work))"
        ),
    ),
    say("`events.py:71` drops the task: nothing holds it, and nothing waits for it. That is the race."),
    call(
        "edit",
        "Edit",
        "checkout/events.py",
        "The file has been updated.",
        Diff(
            path="checkout/events.py",
            old="        asyncio.create_task(self._notify(order))\n",
            new="        self._tasks.start(self._notify(order))\n",
        ),
    ),
    plan(2, "Reproduce the failure", "Find what is not awaited", "Fix it and run the test 200 times"),
    call("execute", "Bash", "pytest tests/test_checkout.py -q --count 200", None),
)
MIGRATE = turn(
    "codex",
    "/srv/shop/orders",
    say("I move `orders.address` into a table of its own, in three migrations that each keep the old server working."),
    call(
        "read",
        "read",
        "sql/migrations/0117_orders.sql",
        (
            "create table orders (\n    id bigint primary key,\n"
            "    customer_id bigint not null references customers,\n    address text not null,\n"
            "    placed_at timestamptz not null default now()\n);"
        ),
    ),
    call(
        "edit",
        "apply_patch",
        "sql/migrations/0118_addresses.sql",
        "Done.",
        Diff(
            path="a",
            old=None,
            new=(
                "create table addresses (\n    id bigint generated always as identity primary key,\n"
                "    customer_id bigint not null references customers,\n    lines text[] not null,\n"
                "    country char(2) not null\n);\n"
                "alter table orders add address_id bigint references addresses;\n"
            ),
        ),
    ),
    call("execute", "shell", "make migrate test", "applied 0118_addresses in 0.21 s\n412 passed in 38.11s"),
    say(
        "Old and new server both pass. Next: copy the rows in batches of 5,000, so that "
        "no lock lasts longer than 50 ms."
    ),
    call("execute", "shell", "python -m orders.copy_addresses --batch 5000", None),
)
GEMINI = turn(
    "gemini",
    "/srv/shop/web",
    say("The first page loads 412 kB of JavaScript. I look for what it does not need."),
    call(
        "execute",
        "run_shell_command",
        "npx vite-bundle-visualizer --json",
        (
            "moment          71.8 kB\nlodash          68.2 kB\n"
            "@shop/charts   104.5 kB   imported by src/pages/Home.svelte\nsvelte          18.3 kB"
        ),
    ),
    call(
        "edit",
        "replace",
        "src/pages/Home.svelte",
        "Done.",
        Diff(
            path="b", old='  import { Chart } from "@shop/charts";\n', new='  const charts = import("@shop/charts");\n'
        ),
    ),
    call(
        "execute",
        "run_shell_command",
        "npm run build && npm run size",
        "dist/index.js    188.4 kB │ gzip: 61.2 kB\nfirst page       412.0 kB → 188.4 kB",
    ),
    say("First page: **412 kB → 188 kB**. `moment` stays, because the calendar uses its time zones."),
    seconds=212.4,
    tokens=48_112,
)
REVIEWED = turn(
    "claude",
    "/srv/shop/api",
    say("I read the diff of the branch, then what calls the changed functions."),
    call(
        "execute",
        "Bash",
        "git diff --stat main",
        (
            " api/webhooks.py       | 24 ++++++++-----\n"
            " api/backoff.py        | 31 +++++++++++++++++\n"
            " tests/test_webhooks.py | 58 ++++++++++++++++++++++++++++++\n"
            " 3 files changed, 103 insertions(+), 10 deletions(-)"
        ),
    ),
    call(
        "read",
        "Read",
        "api/webhooks.py",
        "61\tdef deliver_all(events):\n62\t    for event in events:\n63\t        deliver(event)",
        RETRY,
    ),
    say(
        "Two things before this is merged:\n\n"
        "- `sleep` blocks the worker for up to a minute: use the queue's delay.\n"
        "- A webhook that answers 410 must not be tried again."
    ),
    seconds=84.0,
    tokens=22_870,
)
TYPED = turn(
    "acp",
    "/srv/shop/search",
    say("I replace the ranking by BM25, behind a flag, and compare both on last week's queries."),
    call(
        "execute",
        "terminal",
        "cargo test --release ranking",
        (
            "running 38 tests\n......................................\n"
            "test result: ok. 38 passed; 0 failed; finished in 2.91s"
        ),
    ),
    call(
        "execute",
        "terminal",
        "cargo run --release --bin compare -- queries/2026-47.jsonl",
        "queries        18204\nndcg@10        0.612 → 0.671\nslower p99     11.8 ms → 12.3 ms",
    ),
    say("Better for 9.6 % of the queries, worse for 1.1 %. The flag is `search.bm25`, off by default."),
    seconds=341.7,
    tokens=91_400,
)
VAT = turn(
    "claude",
    "/srv/shop/billing",
    say("Rounding each line loses cents. I round the total only."),
    call("edit", "Edit", "billing/vat.py", "The file has been updated.", INVOICE),
    call(
        "execute",
        "Bash",
        "pytest tests/test_vat.py -q",
        "....................                                        [100%]\n20 passed in 0.48s",
    ),
    say("Now I would like to delete the old table of rounded lines."),
)
NIGHTLY = (
    prompted("make nightly")
    + tests("api", 16, "refunds")
    + (
        f"\n{RED}=========================== FAILURES ==========================={END}\n"
        f"{RED}E   AssertionError: refund of order 20417 was sent twice{END}\n\n"
        "tests/test_refunds.py:88: AssertionError\n"
        f"{RED}1 failed{END}, {GREEN}335 passed{END} in 61.20s\n"
    )
)
BUILD = (
    prompted("docker build -t shop/web:2.31 .")
    + "".join(
        f"{BLUE}#{number} [{step:2d}/12] {text}{END}\n{DIM}#{number} DONE {seconds:.1f}s{END}\n"
        for number, (step, text, seconds) in enumerate(
            [
                (1, "FROM node:24-slim", 3.1),
                (2, "WORKDIR /app", 0.1),
                (3, "COPY package.json package-lock.json ./", 0.2),
                (4, "RUN npm ci --omit=dev", 41.7),
                (5, "COPY src ./src", 0.3),
                (6, "RUN npm run build", 28.4),
                (7, "RUN npm run size", 1.9),
                (8, "COPY --from=assets /out ./public", 0.8),
            ],
            5,
        )
    )
    + (
        f"{BLUE}#13 [ 9/12] RUN npm test{END}\n"
        f"{DIM}#13 4.112{END}  ✓ src/basket.test.ts (14 tests) 212ms\n"
        f"{DIM}#13 5.870{END}  ✓ src/checkout.test.ts (31 tests) 644ms\n"
    )
)
RUST = (
    prompted("cargo build --release")
    + "".join(
        f"{GREEN}{BOLD}   Compiling{END} {crate}\n"
        for crate in (
            *("serde v1.0.228", "tokio v1.48.0", "hyper v1.8.1", "tantivy v0.25.0", "axum v0.8.7", "tower v0.5.2"),
            *(
                "rayon v1.11.0",
                "regex v1.12.2",
                "memchr v2.7.6",
                "roaring v0.11.2",
                "search-index v0.9.0 (/srv/shop/search)",
            ),
        )
    )
    + (
        f"{YELLOW}{BOLD}warning{END}{BOLD}: unused variable: `boost`{END}\n"
        f"  {BLUE}-->{END} src/rank.rs:41:9\n"
        f"{GREEN}{BOLD}    Finished{END} `release` profile [optimized] target(s) in 1m 12s\n"
    )
)
DEPLOY = prompted("./deploy production api") + (
    f"{DIM}14:02:11{END} rolling out {CYAN}api 2.31.0{END} to 12 machines\n"
    + "".join(
        f"{DIM}14:0{2 + number // 4}:{(17 + number * 14) % 60:02d}{END} api-{number + 1:02d}  drained, updated, "
        f"{GREEN}healthy{END} (p99 {38 + number * 3 % 11} ms)\n"
        for number in range(9)
    )
    + f"{DIM}14:04:09{END} api-10  drained, updated, waiting for health\n"
)
LOAD = prompted("k6 run checkout.js") + (
    f"     {GREEN}✓{END} status is 200\n     {GREEN}✓{END} total is right\n\n"
    "     http_req_duration..: avg=41.2ms  med=36.9ms  p(95)=88.4ms\n"
    "     http_reqs..........: 184213  1535.1/s\n     vus................: 400\n"
    f"running (2m00.1s), 000/400 VUs, 61404 complete iterations\n{GREEN}checkout ✓{END} [ 100% ] 400 VUs  2m0s\n"
)
PLAYBOOK = prompted("ansible-playbook site.yml --limit eu") + "".join(
    (
        f"\n{BOLD}TASK [{task}] {'*' * (62 - len(task))}{END}\n{GREEN}ok: [eu-1]{END}\n"
        f"{YELLOW}changed: [eu-2]{END}\n{GREEN}ok: [eu-3]{END}\n"
    )
    for task in ("common : packages", "postgres : configuration", "postgres : reload", "backup : timer")
)
EVALUATION = (
    prompted("python -m evaluate --suite support")
    + "".join(
        f"  {name:<22} {CYAN}{'█' * share}{DIM}{'░' * (30 - share)}{END} {share / 30:5.1%}\n"
        for name, share in (("refunds", 27), ("delivery", 29), ("wrong item", 24), ("password", 30), ("invoice", 26))
    )
    + f"\n{BOLD}support{END}: 412 cases, 93.2 % solved, {RED}28 for a person{END}\n"
)

# What agents ask

ASKED: dict[str, RequestBody] = {
    "psql -c 'drop table rounded_lines'": PermissionBody(
        tool="Bash",
        tool_kind="execute",
        folder="/srv/shop/billing",
        input=json.dumps({"command": "psql -c 'drop table rounded_lines'", "timeout": 120000}),
        names=["Bash", "execute"],
        said=["psql -c 'drop table rounded_lines'"],
        parts=[["psql -c 'drop table rounded_lines'"]],
        rules=["Bash(psql -c 'drop table rounded_lines')", "Bash(psql *)"],
        editable=True,
    ),
    "Edit src/checkout/Total.svelte": PermissionBody(
        tool="replace",
        tool_kind="edit",
        folder="/srv/shop/web",
        input=json.dumps({"file_path": "src/checkout/Total.svelte"}),
        diff=(
            "--- a/src/checkout/Total.svelte\n+++ b/src/checkout/Total.svelte\n@@ -8,7 +8,8 @@\n"
            "   const lines = $derived(basket.lines);\n"
            "-  const total = $derived(lines.reduce((sum, line) => sum + line.gross, 0));\n"
            "+  const net = $derived(lines.reduce((sum, line) => sum + line.net, 0));\n"
            "+  const total = $derived(rounded(net * (1 + basket.vat)));\n"
            "   const free = $derived(total >= 50);\n"
        ),
    ),
    "Which customers get the new prices?": QuestionBody(
        questions=[
            Question(
                id="customers",
                text="Which customers get the new prices?",
                options=[
                    QuestionOption(label="New ones only", description="Contracts that exist keep their prices."),
                    QuestionOption(label="All, from January on", description="Their contracts allow it once a year."),
                ],
            )
        ]
    ),
    "Plan: search without a second database": PlanBody(
        plan=(
            "# Search in Postgres\n\n1. Index titles and texts with `pg_trgm`\n"
            "2. Send 5 % of the queries to both\n3. Compare, then switch\n"
        )
    ),
}


def _asks(title: str) -> tuple[str, RequestBody]:
    return title, ASKED[title]


CLAUDE, CODEX, GEM, ACP, SHELL = (AgentKind(kind) for kind in ("claude", "codex", "gemini", "acp", "shell"))


def _agent(
    name: str,
    kind: AgentKind,
    labels: str,
    host: str,
    state: State,
    minutes: float,
    text: str,
    shown: str,
    *queued: str,
    asks: str = "",
    cli: str | None = None,
) -> PicturedAgent:
    return PicturedAgent(
        name=name,
        kind=kind,
        labels=labels.split(),
        host=host,
        state=state,
        minutes=minutes,
        text=text,
        shown=shown,
        queued=queued,
        asks=_asks(asks) if asks else None,
        cli=cli,
    )


FLEET = [
    _agent(
        "billing-vat",
        CLAUDE,
        "billing prod",
        "build-2",
        "waiting",
        4,
        "Find where cents are lost, and fix it.",
        VAT,
        asks="psql -c 'drop table rounded_lines'",
    ),
    _agent(
        "web-checkout",
        GEM,
        "web",
        "build-3",
        "waiting",
        11,
        "Show the total with VAT on the checkout page.",
        GEMINI,
        asks="Edit src/checkout/Total.svelte",
    ),
    _agent(
        "pricing",
        CODEX,
        "billing",
        "build-2",
        "waiting",
        26,
        "Introduce the prices of 2027.",
        MIGRATE,
        "Update the page of prices.",
        asks="Which customers get the new prices?",
    ),
    _agent(
        "search-plan",
        ACP,
        "search",
        "build-4",
        "waiting",
        38,
        "Can search do without its own database?",
        TYPED,
        asks="Plan: search without a second database",
        cli="qwen",
    ),
    _agent(
        "checkout-flaky",
        CLAUDE,
        "checkout ci",
        "build-1",
        "working",
        6,
        "Fix the flaky test of the checkout.",
        FLAKY,
        "Remove the retries from CI.",
    ),
    _agent(
        "orders-schema",
        CODEX,
        "orders prod",
        "build-2",
        "working",
        19,
        "Give addresses their own table.",
        MIGRATE,
        "Drop orders.address.",
        "Update the ER diagram.",
    ),
    _agent(
        "web-image",
        SHELL,
        "web ci",
        "build-3",
        "working",
        2,
        "docker build -t shop/web:2.31 .",
        BUILD,
        "docker push shop/web:2.31",
    ),
    _agent("api-rollout", SHELL, "api prod", "ops-1", "working", 3, "./deploy production api", DEPLOY),
    _agent(
        "api-backoff", CLAUDE, "api", "build-1", "working", 14, "Retry webhooks with a growing pause.", REVIEWED + FLAKY
    ),
    _agent(
        "mobile-ios",
        CLAUDE,
        "mobile",
        "mac-1",
        "working",
        47,
        "Move the basket to Swift concurrency.",
        FLAKY,
        "Raise the lowest iOS to 18.",
    ),
    _agent("search-rank", ACP, "search", "build-4", "working", 9, "Rank by BM25, behind a flag.", TYPED, cli="qwen"),
    _agent("eu-machines", SHELL, "infra prod", "ops-1", "working", 1, "ansible-playbook site.yml --limit eu", PLAYBOOK),
    _agent("support-eval", SHELL, "data", "gpu-1", "working", 8, "python -m evaluate --suite support", EVALUATION),
    _agent(
        "web-bundle", GEM, "web", "build-3", "working", 22, "Halve the first page's JavaScript.", GEMINI + GEMINI[:400]
    ),
    _agent(
        "docs-api",
        CLAUDE,
        "docs",
        "ada-laptop",
        "limited",
        71,
        "Document every error of the API.",
        REVIEWED,
        "Translate the guide into German.",
        "Check all links.",
    ),
    _agent(
        "catalogue-import",
        CODEX,
        "catalogue",
        "build-2",
        "limited",
        33,
        "Import the catalogue of the new supplier.",
        MIGRATE,
        "Compare the stock of both systems.",
    ),
    _agent(
        "backup-check",
        SHELL,
        "infra prod",
        "ops-2",
        "problem",
        52,
        "restic check --read-data-subset 5%",
        PLAYBOOK,
        "restic forget --prune",
    ),
    _agent("api-nightly", SHELL, "api ci", "build-1", "failed", 96, "make nightly", NIGHTLY),
    _agent("mobile-android", CODEX, "mobile", "build-4", "failed", 18, "Update Gradle and Kotlin.", MIGRATE),
    _agent("load-test", SHELL, "checkout", "ops-1", "succeeded", 12, "k6 run checkout.js", LOAD),
    _agent("api-review", CLAUDE, "api", "build-1", "succeeded", 7, "Review the branch retry-webhooks.", REVIEWED),
    _agent("web-size", GEM, "web", "build-3", "succeeded", 31, "What makes the first page slow?", GEMINI),
    _agent(
        "search-compare",
        ACP,
        "search",
        "build-4",
        "succeeded",
        44,
        "Compare the rankings of last week.",
        TYPED,
        cli="qwen",
    ),
    _agent("search-build", SHELL, "search ci", "build-4", "succeeded", 16, "cargo build --release", RUST),
    _agent(
        "stock-sync", CLAUDE, "catalogue", "build-2", "succeeded", 58, "Why is the stock wrong on Mondays?", REVIEWED
    ),
    _agent("mail-templates", GEM, "web", "build-3", "succeeded", 125, "Make the mails readable in dark mode.", GEMINI),
    _agent(
        "fraud-rules", CODEX, "billing", "build-2", "succeeded", 83, "Test each fraud rule against last year.", MIGRATE
    ),
    _agent("data-quality", SHELL, "data", "gpu-1", "succeeded", 210, "python -m evaluate --suite quality", EVALUATION),
    _agent("dependencies", CLAUDE, "infra", "build-1", "cancelled", 65, "Update all dependencies.", REVIEWED),
    _agent(
        "terraform",
        SHELL,
        "infra prod",
        "ops-2",
        "paused",
        34,
        "terraform plan -out eu.plan",
        PLAYBOOK,
        "terraform apply eu.plan",
    ),
    _agent("refunds", CLAUDE, "billing", "build-2", "succeeded", 27, "Refund twice is not possible: prove it.", VAT),
    _agent("webhooks", CODEX, "api", "build-1", "succeeded", 140, "Sign webhooks with Ed25519.", MIGRATE),
    _agent("translations", GEM, "docs", "build-3", "succeeded", 171, "Which texts have no translation?", GEMINI),
    _agent("ada-scratch", SHELL, "", "ada-laptop", "offline", 1500, "make watch", RUST),
    _agent("ben-laptop", CLAUDE, "web", "ben-laptop", "offline", 260, "Explain the router to me.", REVIEWED),
    _agent("gpu-train", SHELL, "data", "gpu-2", "offline", 610, "python train.py --epochs 40", EVALUATION),
    _agent("old-runner", SHELL, "ci", "build-0", "offline", 9000, "make release", NIGHTLY),
]


# What agents have reported

REPORTS: list[tuple[str, str, dict[str, object]]] = [
    (
        "checkout-flaky",
        "Investigate",
        {
            "title": "The checkout test fails because a task is dropped",
            "summary": "`checkout/events.py:71` starts a task that nothing holds. In one run of twelve it is collected "
            "before it has set the order to `paid`. I am sure: with the task held, 200 runs pass.",
            "findings": [
                {
                    "title": "A task that nothing holds",
                    "severity": "high",
                    "description": "The event loop keeps weak references only.",
                    "evidence": [
                        {
                            "file": "checkout/events.py",
                            "line": 71,
                            "excerpt": "        asyncio.create_task(self._notify(order))",
                            "note": "The only call without a reference.",
                        }
                    ],
                },
                {
                    "title": "The retries of CI hide it",
                    "severity": "medium",
                    "description": "`--reruns 2` turns one failure of twelve into one of 1,700.",
                    "evidence": [],
                },
            ],
            "recommendations": [
                {"action": "Start it by `self._tasks`", "priority": "high", "rationale": "One line."},
                {"action": "Remove `--reruns` from CI", "priority": "medium", "rationale": "It hides such faults."},
            ],
        },
    ),
    (
        "api-review",
        "Review",
        {
            "title": "retry-webhooks: two changes before it is merged",
            "summary": "The pause grows as it should. It blocks a worker meanwhile, and a deleted webhook is retried.",
            "findings": [
                {
                    "title": "`sleep` blocks a worker for up to a minute",
                    "severity": "critical",
                    "description": "Eight slow receivers stop all deliveries.",
                    "evidence": [{"file": "api/webhooks.py", "line": 66, "excerpt": "sleep(pause)", "note": ""}],
                },
                {
                    "title": "410 Gone is retried",
                    "severity": "medium",
                    "description": "The receiver has said that it is gone.",
                    "evidence": [],
                },
            ],
            "recommendations": [
                {"action": "Use the queue's delay", "priority": "high", "rationale": "It exists: `queue.later`."}
            ],
        },
    ),
    (
        "stock-sync",
        "Investigate",
        {
            "title": "On Mondays the stock is that of Friday",
            "summary": "The import of Sunday reads the file before the supplier has replaced it.",
            "findings": [
                {
                    "title": "The import runs 40 minutes too early",
                    "severity": "high",
                    "description": "Each of the last six Mondays.",
                    "evidence": [],
                }
            ],
            "recommendations": [
                {
                    "action": "Wait for the file's checksum",
                    "priority": "high",
                    "rationale": "It does not lie.",
                }
            ],
        },
    ),
    (
        "web-size",
        "Investigate",
        {
            "title": "Charts make the first page slow",
            "summary": "A quarter of its JavaScript is `@shop/charts`, which only one page shows.",
            "findings": [
                {
                    "title": "Charts are loaded at once",
                    "severity": "low",
                    "description": "104 kB of 412 kB.",
                    "evidence": [],
                }
            ],
            "recommendations": [
                {"action": "Load charts when they are shown", "priority": "medium", "rationale": "Two lines."}
            ],
        },
    ),
]
"""The agent, the preset and the report."""
