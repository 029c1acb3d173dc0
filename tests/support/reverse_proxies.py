"""nginx and Caddy, with the configurations of docs/deployment.md, on a free port before instances of this machine."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from support.ports import free_port

DOCUMENT = Path(__file__).parents[2] / "docs" / "deployment.md"
NGINX = """
daemon off;
pid {folder}/pid;
error_log stderr;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{server}
}}
"""
CADDY = """
{{
    admin off
    auto_https off
}}
{server}
"""


REVERSE_PROXIES = ("nginx", "nginx by path", "caddy", "caddy by path")
"""The documented configurations. By the path, an agent and its viewers come to the same instance."""


def documented(program: str) -> list[str]:
    """The configurations of the program in the document: round robin, and by the path."""
    return re.findall(rf"^```{program}\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


def _server(kind: str, port: int, instances: Sequence[str]) -> str:
    """The documented configuration for this port and these instances, without TLS."""
    program, _, by_path = kind.partition(" ")
    text, other = documented(program)
    if by_path and program == "nginx":
        text, count = re.subn(r"^upstream .*?^}\n", lambda _: other, text, flags=re.MULTILINE | re.DOTALL)
        assert count == 1
    elif by_path:
        text = other
    addresses = [urlsplit(instance).netloc for instance in instances]
    if program == "nginx":
        listed = r"(    server 10\.0\.0\.\d:8400 max_fails=0;\n)+"
        ours = "".join(f"    server {address} max_fails=0;\n" for address in addresses)
    else:
        listed, ours = r"(10\.0\.0\.\d:8400 )+", "".join(f"{address} " for address in addresses)
    text, count = re.subn(listed, ours, text)
    assert count == 1
    before, after = {
        "nginx": ("listen 443 ssl;", f"listen {port};"),
        "caddy": ("onsembl.example.org {", f"http://:{port} {{"),
    }[program]
    assert before in text
    return re.sub(r"^ *(ssl_certificate\S*|server_name) .*\n", "", text.replace(before, after), flags=re.MULTILINE)


@asynccontextmanager
async def reverse_proxy(kind: str, folder: Path, instances: Sequence[str]) -> AsyncGenerator[str]:
    """Run one of `REVERSE_PROXIES` before the instances with these URLs. The value is its URL."""
    program = kind.partition(" ")[0]
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    assert path, f"this test needs {program}; `./dev test --all` installs it for root"
    folder.mkdir()
    port = free_port()
    template, file = (NGINX, folder / "nginx.conf") if program == "nginx" else (CADDY, folder / "Caddyfile")
    user = "user root;" if os.geteuid() == 0 else ""
    server = _server(kind, port, instances)
    file.write_text(template.format(folder=folder, user=user, server=server))
    arguments = (
        ["-p", folder, "-c", file] if program == "nginx" else ["run", "--config", file, "--adapter", "caddyfile"]
    )
    log = (folder / "log").open("wb")
    with log:
        process = await asyncio.create_subprocess_exec(
            path, *arguments, stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)}
        )
        try:
            await _listens(process, port, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()


async def _listens(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    while True:
        assert process.returncode is None, log.read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            await asyncio.sleep(0.02)
        else:
            return writer.close()
