"""Runs turns whose tokens the scripted model chooses, and counts what the CLI reports of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from clis.programs import Cli
from support.agents import FINAL, Operator, agent_running
from support.api_calls import call_api
from support.server import Api

TURNS = 20
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def prompt(number: int) -> str:
    """A prompt with numbers of its own; every fourth turn calls the model a second time, after a tool."""
    script = f"[input: {100 + number}] [tokens: {10 + number}] [cache: {1000 * number} {7 * number}]"
    return f"turn {number} {script}" + (" [run: true]" if number % 4 == 0 else "")


async def counted_and_served(
    api: Api, admin: Operator, model: str, folder: Path, cli: Cli, *, continues: bool = True, forks: bool = True
) -> tuple[dict[str, int], dict[str, int]]:
    """The tokens of the turns' usage, and those that the model has served: over turns that continue conversations,
    begin new ones and fork some, as far as the CLI can."""
    async with agent_running(api, folder, kind=cli.kind, arguments=cli.arguments) as agent:
        await call_api(admin, "PUT", f"/v1/agents/{agent.id}/permission-mode", {"permission_mode": "full"})
        conversation, counted = "new", Counter[str]()
        for number in range(1, TURNS + 1):
            fields = {"conversation": conversation, "permission_mode": cli.mode}
            ended = await admin.until_state(await admin.send(agent.id, prompt(number), **fields), *FINAL)
            assert (ended["state"], ended["error"]) == ("succeeded", None)
            counted.update({name: ended["usage"][name] for name in COUNTS})
            conversation = "new" if number % 7 == 0 or not continues else ended["conversation_id"]
            if forks and number % 6 == 0:
                path = f"/v1/conversations/{ended['conversation_id']}/fork"
                conversation = (await call_api(admin, "POST", path, {}, 201))["id"]
    served: dict[str, int] = (await api.http.get(f"{model}/served")).json()
    assert served["cache_read_tokens"] > 0 and served["cache_write_tokens"] > 0
    return dict(counted), served
