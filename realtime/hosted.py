"""A hosted (or self-hosted) Supabase project, which then signs people in and pushes the dashboard's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostedProject:
    """Where the project is and the keys to it. `issuer` is what its access tokens name."""

    url: str
    publishable_key: str
    secret_key: str
    issuer: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> HostedProject | None:
        """The project that `SUPABASE_URL` names; None without one. Raises KeyError for a key that is missing."""
        url = environment.get("SUPABASE_URL", "").rstrip("/")
        if not url:
            return None
        return cls(
            url=url,
            publishable_key=environment["SUPABASE_PUBLISHABLE_KEY"],
            secret_key=environment["SUPABASE_SECRET_KEY"],
            issuer=environment.get("SUPABASE_ISSUER", f"{url}/auth/v1"),
        )
