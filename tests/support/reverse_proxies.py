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


def documented(program: str) -> str:
    """The configuration in the document."""
    found = re.search(rf"^```{program}\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def _server(program: str, port: int, instances: Sequence[str]) -> str:
    """The documented configuration for this port and these instances, without TLS."""
    text = documented(program)
    for number, instance in enumerate(instances, 1):
        assert f"10.0.0.{number}:8400" in text
        text = text.replace(f"10.0.0.{number}:8400", urlsplit(instance).netloc)
    listens = {
        "nginx": ("listen 443 ssl;", f"listen {port};"),
        "caddy": ("onsembl.example.org {", f"http://:{port} {{"),
    }
    before, after = listens[program]
    assert before in text
    return re.sub(r"^ *(ssl_certificate\S*|server_name) .*\n", "", text.replace(before, after), flags=re.MULTILINE)


@asynccontextmanager
async def reverse_proxy(program: str, folder: Path, instances: Sequence[str]) -> AsyncGenerator[str]:
    """Run `nginx` or `caddy` before the instances with these URLs. The value is its URL."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    assert path, f"this test needs {program}; `./dev test --all` installs it for root"
    folder.mkdir()
    port = free_port()
    template, file = (NGINX, folder / "nginx.conf") if program == "nginx" else (CADDY, folder / "Caddyfile")
    user = "user root;" if os.geteuid() == 0 else ""
    server = _server(program, port, instances)
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
