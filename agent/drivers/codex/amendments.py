"""The rules that Codex offers to keep itself when a command is allowed: permanent, and for all of its threads. No I/O.

Codex writes each as a line into `rules/default.rules` in its home folder. As seen with version 0.171.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import cast

from onsembl.agent.drivers.json_lines import Json, as_object, as_objects, as_text
from onsembl.protocol.attention_messages import MAX_CLI_RULE_FILE, MAX_CLI_RULE_TEXT, MAX_CLI_RULES, CliRule

FILE = "rules/default.rules"
_PROTOCOLS = {
    "http": ("http", "http"),
    "https": ("https", "https_connect"),
    "socks5Tcp": ("socks5_tcp", "socks5_tcp"),
    "socks5Udp": ("socks5_udp", "socks5_udp"),
}
"""How a rule names each protocol of a request, and how its reason does."""


def offered(params: Json, home: str) -> list[CliRule]:
    """The rules that a request for approval offers; none if Codex has not told its home folder, or one that cannot be
    shown."""
    file = f"{home.rstrip('/')}/{FILE}"
    if not home or not file.isprintable() or len(file) > MAX_CLI_RULE_FILE:
        return []
    return [CliRule(rule=line, file=file) for line, _ in _amendments(params)][:MAX_CLI_RULES]


def decision_for(params: Json, rule: str) -> Json:
    """Codex's own form of the decision that has it keep a rule that `offered` has."""
    return next(decision for line, decision in _amendments(params) if line == rule)


def _amendments(params: Json) -> Iterator[tuple[str, Json]]:
    """Each offered rule that can be shown: the line that Codex writes, and the decision by which it does so."""
    protocol = as_text(as_object(params.get("networkApprovalContext")).get("protocol"))
    for decision in as_objects(params.get("availableDecisions")):
        line = None
        if "acceptWithExecpolicyAmendment" in decision:
            line = _prefix_rule(as_object(decision["acceptWithExecpolicyAmendment"]).get("execpolicy_amendment"))
        elif "applyNetworkPolicyAmendment" in decision:
            told = as_object(as_object(decision["applyNetworkPolicyAmendment"]).get("network_policy_amendment"))
            line = _network_rule(told, protocol)
        if line is not None and line.isprintable() and len(line) <= MAX_CLI_RULE_TEXT:
            yield line, decision


def _prefix_rule(words: object) -> str | None:
    """The line for commands that begin with these words."""
    if (
        not isinstance(words, list)
        or not words
        or not all(isinstance(word, str) for word in cast("list[object]", words))
    ):
        return None
    pattern = ", ".join(json.dumps(word, ensure_ascii=False) for word in cast("list[str]", words))
    return f'prefix_rule(pattern=[{pattern}], decision="allow")'


def _network_rule(told: Json, protocol: str) -> str | None:
    """The line for connections to a host; None for a denial, which would not be an allowance of this one."""
    host = as_text(told.get("host")).lower()
    if not host or told.get("action") != "allow" or protocol not in _PROTOCOLS:
        return None
    name, shown = _PROTOCOLS[protocol]
    reason = json.dumps(f"Allow {shown} access to {host}", ensure_ascii=False)
    return (
        f'network_rule(host={json.dumps(host, ensure_ascii=False)}, protocol="{name}", decision="allow", '
        f"justification={reason})"
    )
