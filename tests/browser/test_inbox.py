"""The inbox: what agents ask is answered from the page, by key and by click, each request once."""

from __future__ import annotations

import json

import msgspec
import pytest
from playwright.async_api import Route
from support.agents import Operator, until
from support.api_calls import call_api
from support.asking_agents import RUN, running
from support.expecting import expect
from support.page_faults import AXE, faults
from support.pictures import DESK, PHONE, pictures
from support.server import Api

from onsembl.protocol.attention_messages import (
    CliRule,
    FormBody,
    IdleBody,
    PermissionBody,
    PlanBody,
    Question,
    QuestionBody,
    QuestionOption,
)
from onsembl.protocol.states import Role
from onsembl.sql.database import connect

EDIT = PermissionBody(
    tool="Edit",
    tool_kind="edit",
    folder="/work",
    input='{"file_path":"a.py"}',
    diff="--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-one\n+two\n",
)
CHOICE = QuestionBody(
    questions=[Question(id="q", text="Which?", options=[QuestionOption(label="left"), QuestionOption(label="right")])]
)
TWO = QuestionBody(
    questions=[
        Question(
            id="many",
            text="Which ones?",
            options=[QuestionOption(label="a"), QuestionOption(label="b"), QuestionOption(label="c")],
            multiple=True,
        ),
        Question(id="secret", text="The token?", secret=True),
    ]
)
PLAN = PlanBody(plan="# Do it\n\n1. First\n2. Second\n\n<b>raw</b>\n")
FORM = FormBody(
    server="crm",
    message="Which account?",
    schema=json.dumps(
        {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "title": "Name"},
                "region": {"type": "string", "enum": ["eu", "us"], "title": "Region"},
                "seats": {"type": "integer", "minimum": 1, "title": "Seats"},
            },
        }
    ),
)
IDLE = IdleBody(text="Overwrite? [y/N]", guess=True)


def key(*keys: str):
    async def press(page, card) -> None:
        for one in keys:
            await page.keyboard.press(one)

    return press


def click(*names: str):
    async def press(page, card) -> None:
        for name in names:
            await card.get_by_role("button", name=name).first.click()

    return press


async def deny_because(page, card) -> None:
    await page.keyboard.press("r")
    await card.get_by_label("Deny with a reason").fill("not on Friday")
    await page.keyboard.press("Enter")


async def edit(page, card) -> None:
    await page.keyboard.press("e")
    await card.get_by_label("Input, as JSON").fill("{")
    await page.keyboard.press("Control+Enter")
    await expect(card.get_by_role("alert")).to_contain_text("This is not JSON")
    await card.get_by_label("Input, as JSON").fill('{"command":"npm ci"}')
    await page.keyboard.press("Control+Enter")


async def by_a_rule(page, card) -> None:
    await page.keyboard.press("a")
    await card.get_by_label("Calls of Bash that begin with “npm ”").check()
    await page.keyboard.press("Enter")


async def two_answers(page, card) -> None:
    await page.keyboard.press("1")
    await card.get_by_label("c", exact=True).check()
    await card.get_by_label("Answer", exact=True).fill("s3cret")
    await page.keyboard.press("Enter")


async def fill_in(page, card) -> None:
    await card.get_by_role("button", name="Send", exact=True).click()
    await expect(card.get_by_role("alert")).to_contain_text("Name: a value is required.")
    await card.get_by_label("Name").fill("Ada")
    await card.get_by_label("Region (optional)").select_option("us")
    await card.get_by_label("Seats (optional)").fill("3")
    await card.get_by_role("button", name="Send", exact=True).click()


def answers(**given: list[str]) -> dict:
    return {"decision": "answers", "answers": [{"id": id, "answers": texts} for id, texts in given.items()]}


KEPT = [CliRule(rule=rule, file="/home/a/rules") for rule in ('["npm","test"]', '["npm"]')]
ALLOW = {"decision": "allow", "input": None, "cli_rule": None}
DENY = {"decision": "deny", "reason": "", "cancel": False}
CASES = [
    (RUN, key("y"), ALLOW),
    (EDIT, click("Allow"), ALLOW),
    (EDIT, key("n"), DENY),
    (RUN, deny_because, {**DENY, "reason": "not on Friday"}),
    (RUN, edit, {**ALLOW, "input": '{"command":"npm ci"}'}),
    (CHOICE, key("2"), answers(q=["right"])),
    (TWO, two_answers, answers(many=["a", "c"], secret=["s3cret"])),
    (PLAN, click("Approve"), ALLOW),
    (PLAN, click("Send back with a reason", "Send back"), DENY),
    (FORM, fill_in, {"decision": "form", "content": '{"name":"Ada","region":"us","seats":3}'}),
    (FORM, key("x"), {**DENY, "cancel": True}),
    (RUN, by_a_rule, ALLOW),
]


@pytest.mark.no_worker
@pytest.mark.seconds(15)
async def test_each_kind_is_answered(center: Api, visit) -> None:
    """By key and by click; the card of each kind is accessible in both themes and fits a phone. While an agent waits,
    the header, the title and the list of agents say so. A rule answers the next request like it."""
    account = await center.operator(Role.OPERATOR)
    operator = Operator(center, account)
    async with running(center, operator) as agent:
        visitor = await visit(center.url)
        page = visitor.page
        await page.add_init_script(path=AXE)
        await visitor.come_back(account.email, "/#/inbox")
        await expect(page.get_by_text("No agent waits for a person.")).to_be_visible()
        found: list[str] = []
        for number, (body, act, decision) in enumerate(CASES):
            asked = await agent.ask(body, title=f"request {number}")
            card = page.locator(f'[data-request="{asked["request_id"]}"]')
            await expect(card.and_(page.locator("[data-ready]"))).to_be_visible()
            await pictures(page, f"request-{number}-{body.__struct_config__.tag}")
            await page.set_viewport_size(PHONE if number % 2 else DESK)
            await page.emulate_media(color_scheme="light" if number % 3 else "dark")
            found += await faults(page, f"request {number}", "main")
            await act(page, card)
            answer = await agent.answer()
            assert (answer["request_id"], answer["digest"]) == (asked["request_id"], asked["digest"])
            assert answer["decision"] == decision, number
            await agent.taken(answer)
            latest = page.get_by_role("region", name="Your latest answers").get_by_role("listitem").first
            await expect(latest).to_contain_text(f"request {number}")
            await expect(latest).not_to_contain_text("The agent has not taken it yet.")
            assert "s3cret" not in await page.content()
        assert found == [], "\n".join(sorted(set(found)))

        # The agent takes an answer before the page knows that it was recorded: the page does not say otherwise.
        async def slowly(route: Route) -> None:
            response = await route.fetch()
            answer = await agent.answer()
            await agent.taken(answer)
            await agent.ask(PLAN, title="the next")
            await expect(page.locator("[data-listed]", has_text="the next")).to_be_visible()
            await route.fulfill(response=response)

        await page.set_viewport_size(DESK)
        await page.route("**/answer", slowly)
        await agent.ask(EDIT, title="taken at once")
        await expect(page.locator("[data-ready]")).to_contain_text("taken at once")
        await page.keyboard.press("y")
        await expect(latest).to_contain_text("taken at once")
        await expect(latest).not_to_contain_text("The agent has not taken it yet.")
        await page.unroute("**/answer")
        await expect(page.locator("[data-ready]")).to_contain_text("the next")
        await page.keyboard.press("y")
        await agent.taken(await agent.answer())

        ruled = await agent.ask(title="by the rule")
        assert (await agent.answer())["request_id"] == ruled["request_id"]

        await page.set_viewport_size(DESK)
        await agent.ask(IDLE, title="Overwrite?")
        await agent.ask(EDIT, title="edit a.py")
        idle = page.locator("[data-request]")
        await expect(idle).to_contain_text("This is a guess")
        await expect(idle.get_by_role("link", name="Open its terminal")).to_be_visible()
        await pictures(page, "request-idle")
        await page.set_viewport_size(DESK)
        await expect(page.get_by_role("link", name="2 requests")).to_contain_text("2 wait")
        await expect(page).to_have_title("(2) Inbox · Onsembl")
        await expect(page.locator('link[rel="icon"][href*="waiting"]')).to_have_count(1)
        await page.keyboard.press("w")
        await expect(page.locator('[data-agent="one"]')).to_contain_text("Overwrite?")
        over = page.locator("[data-request]")
        await expect(over).to_contain_text("Overwrite? [y/N]")

        await agent.end("failed", error="The model is gone.")
        await page.goto(f"{center.url}/#/inbox")
        await page.locator("[data-listed]", has_text="do it").click()
        await expect(page.locator("[data-request]")).to_contain_text("The model is gone.")
        await pictures(page, "request-failed")


@pytest.mark.no_worker
@pytest.mark.seconds(8)
async def test_an_answer_of_somebody_else_is_told(center: Api, visit) -> None:
    """The card says who was first, and stays until the person goes on; a request that is replaced has to be read again.
    A viewer sees the request and cannot answer."""
    account, other_account = await center.operator(Role.OPERATOR), await center.operator(Role.ADMIN)
    viewer = await center.operator(Role.VIEWER)
    operator, other = Operator(center, account), Operator(center, other_account)
    async with running(center, operator) as agent:
        kept = msgspec.structs.replace(EDIT, cli_rules=KEPT)
        first, second = await agent.ask(kept, title="first"), await agent.ask(PLAN, title="second")
        visitor, looking = await visit(center.url), await visit(center.url)
        await visitor.come_back(account.email, "/#/inbox")
        await looking.come_back(viewer.email, "/#/inbox")
        page = visitor.page
        card, seen = page.locator("[data-request]"), looking.page.locator("[data-request]")
        ready = page.locator("[data-ready]")
        await expect(ready).to_contain_text("first")
        await expect(card.get_by_role("button", name="Allow")).to_be_visible()
        await expect(card.get_by_role("button", name="For good")).to_have_count(0)  # that is an admin's
        await expect(seen).to_contain_text("your role is viewer")
        await looking.page.keyboard.press("y")
        await expect(seen.get_by_role("button", name="Allow")).to_have_count(0)

        body = {"digest": first["digest"], "decision": DENY}
        await call_api(other, "POST", f"/v1/attention/{first['request_id']}/answer", body)
        for one in (card, seen):
            await expect(one.get_by_role("status")).to_contain_text(f"Denied by {other_account.email}.")
        await page.keyboard.press("Enter")
        await expect(ready).to_contain_text("second")

        # The answer of this page finds that somebody else was first: the change reaches the page only afterwards.
        await page.route("**/v1/attention*", lambda route: route.abort())
        visitor.console.expect("ERR_FAILED|409")
        await call_api(
            other, "POST", f"/v1/attention/{second['request_id']}/answer", {**body, "digest": second["digest"]}
        )
        await page.keyboard.press("y")
        await expect(card.get_by_role("status")).to_contain_text(f"Sent back by {other_account.email}.")
        await page.unroute("**/v1/attention*")

        asked = await agent.ask(RUN, title="run")
        await page.keyboard.press("Enter")
        await expect(ready).to_contain_text("npm test")
        changed = msgspec.structs.replace(RUN, input='{"command":"npm publish"}')
        await agent.ask(changed, asked["request_id"], title="run")
        await expect(card.get_by_role("alert")).to_contain_text("The agent asks something else now")
        await expect(ready).to_contain_text("npm publish")
        await agent.end()
        await expect(card.get_by_role("status")).to_contain_text("Withdrawn: The command has ended.")


@pytest.mark.no_worker
@pytest.mark.seconds(8)
async def test_an_answer_that_is_cut_off_is_not_lost(center: Api, visit) -> None:
    """When the server does not answer, the page says whether the request is still open. An admin lets the CLI keep the
    chosen one of its rules."""
    account = await center.operator(Role.ADMIN)
    async with running(center, Operator(center, account)) as agent:
        asked = await agent.ask(RUN, title="run")
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back(account.email, "/#/inbox")
        card = page.locator("[data-request]")
        await expect(page.locator("[data-ready]")).to_contain_text("npm test")
        visitor.console.expect("ERR_")
        await page.route("**/answer", lambda route: route.abort())
        await page.keyboard.press("y")
        await expect(card.get_by_role("alert")).to_contain_text("The request is still open.")
        await page.unroute("**/answer")

        async def cut_off(route) -> None:
            await route.fetch()
            await route.abort()

        await page.route("**/answer", cut_off)
        await page.keyboard.press("n")
        await expect(card.get_by_role("status")).to_contain_text("Denied by you.")
        answer = await agent.answer()
        assert (answer["request_id"], answer["decision"]) == (asked["request_id"], DENY)
        await page.unroute("**/answer")

        asked = await agent.ask(msgspec.structs.replace(RUN, cli_rules=KEPT), title="another")
        await page.keyboard.press("Enter")
        await expect(page.locator("[data-ready]")).to_contain_text("another")
        await card.get_by_role("button", name="For good, by its CLI").click()
        await expect(card).to_contain_text("edit the file on its machine")
        await card.get_by_label(KEPT[1].rule, exact=False).check()
        await card.get_by_role("button", name="Allow for good").click()
        answer = await agent.answer()
        assert (answer["request_id"], answer["decision"]["cli_rule"]) == (asked["request_id"], KEPT[1].rule)


@pytest.mark.no_worker
@pytest.mark.seconds(8)
@pytest.mark.parametrize("count", [60, pytest.param(200, marks=pytest.mark.load)])
async def test_many_requests_at_once(center: Api, visit, count: int) -> None:
    """All are listed, the oldest first, and the alike ones are answered together, each with a result of its own."""
    account = await center.operator(Role.OPERATOR)
    visitor = await visit(center.url)
    page = visitor.page
    await visitor.come_back(account.email, "/#/inbox")
    read: list[str] = []
    page.on("request", lambda request: read.append(request.url) if "/v1/attention" in request.url else None)
    async with await connect(center.database_url, autocommit=True) as conn:
        await conn.execute(
            """with agent as (
                insert into onsembl.agents (name, kind, mode) select 'agent-' || n, 'claude', 'exec'
                from generate_series(1, %s) as n returning id, name
            ), command as (
                insert into onsembl.commands (agent_id, text) select id, name from agent returning id, agent_id, text
            )
            insert into onsembl.attention (id, agent_id, command_id, kind, title, body, digest, asked_at)
            select gen_random_uuid(), agent_id, id, 'permission', 'test of ' || text, %s, repeat('0', 64),
                now() - make_interval(mins => 1000 - replace(text, 'agent-', '')::integer)
            from command""",
            [count, msgspec.json.encode(RUN).decode()],
        )
    waiting = page.get_by_role("region", name="Waiting")
    await expect(waiting.get_by_role("heading")).to_contain_text(f"{count} requests")
    await expect(waiting.get_by_role("listitem").first).to_contain_text("test of agent-1")
    card = page.locator("[data-ready]")
    await expect(card).to_contain_text("test of agent-1")
    await page.keyboard.press("k")
    await expect(card).to_contain_text(f"test of agent-{count}")
    await page.keyboard.press("n")
    await expect(waiting.get_by_role("heading")).to_contain_text(f"{count - 1} requests")
    await expect(card).to_contain_text("test of agent-1")
    await page.keyboard.press("g")
    await expect(card).to_contain_text(f"The same answer goes to {count - 1} requests")
    await page.keyboard.press("y")
    await expect(page.get_by_text("No agent waits for a person.")).to_be_visible()
    latest = page.get_by_role("region", name="Your latest answers").get_by_role("listitem")
    await expect(latest).to_have_count(count - 1)
    await expect(latest.filter(has_text="Allowed by you.")).to_have_count(count - 1)
    assert len(read) < 50, "the page reads each request again at each change"


@pytest.mark.no_worker
@pytest.mark.seconds(8)
async def test_a_link_leads_to_its_request_and_its_command(center: Api, visit) -> None:
    """A link of a notification is opened on a phone, signed out: after the sign-in its own request is shown, not the
    oldest. Other links then show an answered request with its answer, and a command with its result."""
    account = await center.operator(Role.OPERATOR)
    operator = Operator(center, account)
    async with running(center, operator) as agent:
        over, _, asked = [await agent.ask(title=title) for title in ("over", "oldest", "linked")]
        answer = {"digest": over["digest"], "decision": {"decision": "deny", "reason": "not now"}}

        async def answered() -> bool:
            path = f"/v1/attention/{over['request_id']}/answer"
            return (await center.http.post(path, json=answer, headers=operator.headers)).is_success

        async def told() -> bool:
            pages.update({event["detail"]["title"]: event["page"] for event in await asked_events(operator)})
            return pages.keys() >= {"over", "oldest", "linked"}

        pages: dict[str, str] = {}
        await until(answered, "the first request is answered")
        await until(told, "the events of the requests are there")
        phone = await visit(center.url, PHONE, has_touch=True, is_mobile=True)
        page = phone.page
        await phone.sign_in(account.email, path=pages["linked"])
        await expect(page.locator("[data-ready]")).to_contain_text("linked")
        assert await page.locator("[data-request]").get_attribute("data-request") == asked["request_id"]
        await pictures(page, "linked-request", [PHONE])

        await page.goto(center.url + pages["over"])
        card = page.locator(f'[data-request="{over["request_id"]}"]')
        await expect(card).to_contain_text("Denied by you")
        await agent.end("failed", error="The model is gone.")
        await until(lambda: ended(operator), "the command has ended")
        [event] = (await call_api(operator, "GET", "/v1/events?kind=command.ended"))["events"]
        await page.goto(center.url + event["page"])
        row = page.locator(f'[data-command="{agent.command["id"]}"][data-state="failed"]')
        await expect(row).to_contain_text("The model is gone.")
        await expect(page.get_by_role("link", name="Open one")).to_be_visible()
        await pictures(page, "linked-command", [PHONE])


async def asked_events(operator: Operator) -> list[dict]:
    return (await call_api(operator, "GET", "/v1/events?kind=attention.asked"))["events"]


async def ended(operator: Operator) -> bool:
    return (await call_api(operator, "GET", "/v1/events?kind=command.ended"))["events"] != []
