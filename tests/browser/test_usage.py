"""The usage page: a chart of the days, a table of groups, and the prices that an admin edits."""

from __future__ import annotations

import re

from support.expecting import expect
from support.server import Api

from onsembl.protocol.states import Role
from onsembl.sql.database import connect

FILL = """
    with a as (insert into agents (name, kind) values ('builder', 'claude') returning id)
    insert into turn_usage (command_id, model, ended_at, agent_id, agent_name, labels, operator_name, input_tokens,
        output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, cost_source)
    select gen_random_uuid(), model, now() - make_interval(days => day), id, 'builder', '{gpu}', 'ada', 1000 * day,
        500, 20000, 300, cost * (1 + day % 5), case when cost is not null then 'cli' end
    from a, generate_series(0, 20) as day, (values ('claude-opus-5-5', 1.5), ('gpt-5.4', null)) as m (model, cost)
"""


async def test_usage_is_shown_and_prices_are_set(center: Api, visit, tmp_path) -> None:
    """The table follows its group, prices give costs to what had none, and the CSV has every turn and model."""
    async with await connect(center.database_url) as conn:
        await conn.execute(FILL)
    visitor = await visit(center.url)
    page = visitor.page
    await visitor.come_back((await center.operator()).email, path="/#/usage")
    table = page.get_by_role("table", name="Usage")
    await expect(table.get_by_role("row", name=re.compile("claude-opus-5-5"))).to_contain_text("$91.50")
    await expect(table.get_by_role("row", name=re.compile("gpt-5.4"))).to_contain_text("–")
    await expect(page.get_by_role("img", name="Cost per day").locator("canvas")).to_be_visible()
    await page.get_by_label("Model").fill("gpt-*")
    await page.get_by_label("From").fill("2026-01-01")
    for kind in ("Input", "Output"):
        await page.get_by_label(kind, exact=True).fill("10")
    await page.get_by_role("button", name="Set prices").click()
    await expect(table.get_by_role("row", name=re.compile("gpt-5.4"))).to_contain_text(re.compile(r"~\$\d"))
    await page.get_by_label("Group by").select_option("agent")
    await page.get_by_label("Chart").select_option("tokens")
    await expect(table.get_by_role("row", name=re.compile("builder"))).to_contain_text("42")
    await expect(page.get_by_role("img", name="Tokens per day")).to_be_visible()
    await page.reload()
    await expect(table.get_by_role("row", name=re.compile("builder"))).to_contain_text("42")
    async with page.expect_download() as started:
        await page.get_by_role("button", name="Download CSV").click()
    await (await started.value).save_as(tmp_path / "usage.csv")
    assert len((tmp_path / "usage.csv").read_text().splitlines()) == 43
    viewer = await visit(center.url)
    await viewer.come_back((await center.operator(Role.VIEWER)).email, path="/#/usage")
    await expect(viewer.page.get_by_text("gpt-*")).to_be_visible()
    await expect(viewer.page.get_by_role("button", name="Set prices")).to_have_count(0)
