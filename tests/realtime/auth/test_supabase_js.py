"""The stand-in's Auth, by the unmodified JavaScript client."""

from __future__ import annotations

from typing import Any

CLIENT = """
    state.client = createClient(args.url, args.key, { auth: { persistSession: false, autoRefreshToken: false } });
"""
SIGN_IN = (
    CLIENT
    + """
    const { data, error } = await state.client.auth.signInWithPassword({ email: args.email, password: args.password });
    return { user: data.user, session: data.session, error: error && { code: error.code, status: error.status } };
"""
)


async def test_signs_in(project: Any, node: Any) -> None:
    """signInWithPassword gives the operator's session."""
    email = await project.operator()
    js = await node()
    answer = await js.run(SIGN_IN, url=project.url, key=project.key, email=email, password="correct horse battery")
    assert answer["error"] is None
    assert answer["user"]["email"] == email
