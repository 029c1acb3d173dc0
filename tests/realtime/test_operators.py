"""Operators of the built-in Supabase and of a hosted project: the same behaviour behind the same protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import pytest

from onsembl.protocol.states import Role
from onsembl.realtime.builtin_operators import builtin_operators
from onsembl.realtime.hosted import HostedProject
from onsembl.realtime.hosted_operators import hosted_operators
from onsembl.realtime.operators import NoSuchOperator, OperatorDirectory, OperatorExists, OperatorRejected

if TYPE_CHECKING:
    from .conftest import Project

EMAIL = "ann@example.org"
PASSWORD = "correct horse battery"


@pytest.fixture(params=["built-in", "hosted"])
async def operators(request: pytest.FixtureRequest, project: Project) -> AsyncGenerator[OperatorDirectory]:
    """The operators in the database, or those of the project by the Supabase client."""
    if request.param == "built-in":
        async with builtin_operators(project.database_url) as operators:
            yield operators
    else:
        hosted = HostedProject(project.url, project.key, project.secret, f"{project.url}/auth/v1")
        async with hosted_operators(hosted) as operators:
            yield operators


async def test_an_added_operator_can_sign_in(operators: OperatorDirectory, project: Project) -> None:
    """A new operator signs in at once and has the role in the token's `app_metadata`."""
    account = await operators.add("Ann@Example.org", PASSWORD, Role.VIEWER)
    assert (account.email, account.role, account.disabled) == (EMAIL, Role.VIEWER, False)
    assert account.last_sign_in_at is None
    session = await project.sign_in(EMAIL)
    assert session["user"]["id"] == str(account.id)
    assert session["user"]["app_metadata"]["role"] == "viewer"


async def test_an_address_is_added_once(operators: OperatorDirectory) -> None:
    """A second operator with the same email address is rejected."""
    await operators.add(EMAIL, PASSWORD, Role.ADMIN)
    with pytest.raises(OperatorExists, match=r"(?i)ann@example\.org"):
        await operators.add("Ann@example.org", PASSWORD, Role.ADMIN)


@pytest.mark.parametrize(("email", "password"), [(EMAIL, "short"), ("ann", PASSWORD)])
async def test_a_weak_password_or_a_bad_address_is_rejected(
    operators: OperatorDirectory, email: str, password: str
) -> None:
    """A weak password or an invalid email address is rejected with the service's reason."""
    with pytest.raises(OperatorRejected, match=r"6 characters|email address"):
        await operators.add(email, password, Role.ADMIN)


async def test_operators_are_listed_by_address(operators: OperatorDirectory, project: Project) -> None:
    """The list has all operators, sorted by email address, with their roles and last sign-ins."""
    for letter, role in zip("cab", (Role.VIEWER, Role.ADMIN, Role.OPERATOR), strict=True):
        await operators.add(f"{letter}@example.org", PASSWORD, role)
    await project.sign_in("b@example.org")
    accounts = await operators.list()
    assert [(account.email[0], account.role) for account in accounts] == [
        ("a", Role.ADMIN),
        ("b", Role.OPERATOR),
        ("c", Role.VIEWER),
    ]
    assert [account.last_sign_in_at is not None for account in accounts] == [False, True, False]


async def test_a_disabled_operator_cannot_sign_in_until_enabled(operators: OperatorDirectory, project: Project) -> None:
    """A disabled operator can neither sign in nor refresh; an enabled operator signs in again."""
    await operators.add(EMAIL, PASSWORD, Role.ADMIN)
    session = await project.sign_in(EMAIL)
    assert (await operators.disable(EMAIL)).disabled
    assert [account.disabled for account in await operators.list()] == [True]
    headers = {"apikey": project.key}
    rejected = await project.http.post(
        "/auth/v1/token?grant_type=password", json={"email": EMAIL, "password": PASSWORD}, headers=headers
    )
    assert rejected.json()["error_code"] == "user_banned"
    refresh = await project.http.post(
        "/auth/v1/token?grant_type=refresh_token", json={"refresh_token": session["refresh_token"]}, headers=headers
    )
    assert refresh.status_code == 400
    assert not (await operators.enable(EMAIL)).disabled
    await project.sign_in(EMAIL)


async def test_a_role_is_changed(operators: OperatorDirectory, project: Project) -> None:
    """The next access token has the new role."""
    await operators.add(EMAIL, PASSWORD, Role.ADMIN)
    assert (await operators.set_role(EMAIL, Role.VIEWER)).role is Role.VIEWER
    assert (await project.sign_in(EMAIL))["user"]["app_metadata"]["role"] == "viewer"


async def test_an_unknown_operator_is_named(operators: OperatorDirectory) -> None:
    """Disabling or enabling an unknown operator raises an error with the email address."""
    for change in (operators.disable, operators.enable):
        with pytest.raises(NoSuchOperator, match=r"eve@example\.org"):
            await change("eve@example.org")


async def test_an_unreachable_project_is_an_error_for_people() -> None:
    """An unreachable project raises an OperatorRejected that a person understands."""
    project = HostedProject("http://127.0.0.1:9", "sb_publishable_x", "sb_secret_x", "http://127.0.0.1:9/auth/v1")
    async with hosted_operators(project) as operators:
        with pytest.raises(OperatorRejected, match="could not be reached"):
            await operators.list()


async def test_a_wrong_secret_key_is_an_error_for_people(project: Project) -> None:
    """A wrong secret key raises an error that says that the project rejected the call."""
    hosted = HostedProject(project.url, project.key, project.key, f"{project.url}/auth/v1")
    async with hosted_operators(hosted) as operators:
        with pytest.raises(OperatorRejected, match="rejected"):
            await operators.list()
