"""An MCP server on standard streams whose tool `fill` asks by a form. Its answer becomes a line of the file that the
argument names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FORM = {
    "message": "Where to deploy?",
    "requestedSchema": {
        "type": "object",
        "properties": {
            "place": {"type": "string", "enum": ["staging", "production"], "title": "Place"},
            "copies": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["place"],
    },
}


def _send(message: dict[str, Any]) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def main() -> None:
    """Serve until the client ends."""
    call: object = None
    for line in sys.stdin:
        message = json.loads(line)
        match message.get("method"):
            case "initialize":
                server = {"name": "deploy", "version": "1"}
                version = message["params"]["protocolVersion"]
                result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}
                _send({"id": message["id"], "result": result})
            case "tools/list":
                tool = {"name": "fill", "description": "Ask where to deploy.", "inputSchema": {"type": "object"}}
                _send({"id": message["id"], "result": {"tools": [tool]}})
            case "tools/call":
                call = message["id"]
                _send({"id": "form-1", "method": "elicitation/create", "params": FORM})
            case None if message.get("id") == "form-1":
                with Path(sys.argv[1]).open("a") as file:
                    file.write(json.dumps(message.get("result") or message.get("error")) + "\n")
                _send({"id": call, "result": {"content": [{"type": "text", "text": "Filled."}]}})
            case _ if "id" in message:
                _send({"id": message["id"], "result": {}})
            case _:
                pass


if __name__ == "__main__":
    main()
