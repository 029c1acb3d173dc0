"""Keeps credentials off unencrypted connections to other machines, unless `--insecure` allows that."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

import click

from onsembl.cli.errors import CliError

_ALLOWED = "onsembl.insecure"


def _allow(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[_ALLOWED] = value


insecure_option = click.option(
    "--insecure",
    is_flag=True,
    envvar="ONSEMBL_INSECURE",
    show_envvar=True,
    expose_value=False,
    callback=_allow,
    help="Send credentials to another machine without encryption (http://), over a network that you trust.",
)
"""`require_encryption` reads it from click's context, so that no function has to pass it on."""


def require_encryption(url: str) -> None:
    """Raise CliError if credentials would go to another machine without encryption, and `--insecure` is not given."""
    context = click.get_current_context(silent=True)
    if is_encrypted_or_local(url) or (context is not None and context.meta.get(_ALLOWED)):
        return
    raise CliError(
        f"{url} is not encrypted, and everybody on the way could read the credentials. Use an https:// URL, or "
        "--insecure over a network that you trust."
    )


def is_encrypted_or_local(url: str) -> bool:
    """Whether the URL has the scheme https, or names this machine."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme == "https" or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
