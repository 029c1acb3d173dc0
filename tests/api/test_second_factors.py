"""Operators of a hosted project whose accounts have a second factor."""

from __future__ import annotations

import asyncio
import json

import pytest
from support.server import PASSWORD, running
from support.supabase_project import supabase_project

from onsembl.api.settings import Settings
from onsembl.protocol.states import Role
from onsembl.realtime.hosted import HostedProject
from onsembl.sql.migrate import migrate

pytestmark = pytest.mark.no_worker

EMAIL = "ann@example.org"


async def test_a_session_needs_the_second_factor(postgres, tmp_path):
    """After an account gets a second factor, the API and the policies reject its sessions without it. `onsembl login`
    asks for the code of the authenticator app; the session keeps its strength when it is refreshed."""
    with supabase_project(postgres) as project:
        await migrate(project.owner, builtin_supabase=False)
        hosted = HostedProject.from_environment(project.environment)
        async with running(Settings(database_url=project.owner, public_url="", hosted=hosted)) as api:
            account = await api.services.directory.add(EMAIL, PASSWORD, Role.ADMIN)
            environment = {"XDG_STATE_HOME": str(tmp_path), "ONSEMBL_OPERATOR_PASSWORD": PASSWORD}

            async def onsembl(*arguments: str) -> tuple[int, str]:
                result = await asyncio.to_thread(project.onsembl, *arguments, **environment)
                return result.returncode, result.stderr

            login = ("login", "--server", api.url, "--email", EMAIL)
            assert await onsembl(*login) == (0, "")
            assert await onsembl("agents", "list") == (0, "")
            factor = project.add_factor(EMAIL)
            api.services.accounts.forget()
            code, said = await onsembl("agents", "list")
            assert code == 1 and "second factor" in said and "Sign in again" in said
            wrong = next(text for text in ("000000", "000001", "000002") if text not in (factor.code(), factor.code(1)))
            assert await onsembl(*login, "--code", wrong) == (1, "Error: Invalid TOTP code entered\n")
            assert await onsembl(*login, "--code", factor.code()) == (0, "")
            assert await onsembl("agents", "list") == (0, "")
            path = tmp_path / "onsembl" / "session.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "expires_at": 0}))
            assert await onsembl("agents", "list") == (0, "")
            assert json.loads(path.read_text())["expires_at"] > 0
        seen: list[object] = []
        for level in ("aal1", "aal2"):
            claims = {"sub": str(account.id), "aal": level, "app_metadata": {"role": "admin"}}
            seen += project.execute(
                f"select set_config('request.jwt.claims', '{json.dumps(claims)}', false)",
                "set role authenticated",
                "select onsembl.is_operator() as operator, onsembl.is_admin() as admin",
            )
        assert seen == [{"operator": False, "admin": False}, {"operator": True, "admin": True}]
