"""The hash chain over the audit log: its links, and its verification. Pure.

Each hash is SHA-256 of the previous hash (32 zero bytes at first), followed by SHA-256 of the row's text. So a row that
was changed, removed or inserted is detected at its place, and a hash noted elsewhere proves that all rows before it are
unchanged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

START = bytes(32)
MOST_FINDINGS = 100
"""The number of findings that are listed; all findings are counted."""


def row_hash(text: Sequence[str]) -> bytes:
    """SHA-256 of a row's text: a compact JSON array of strings, in UTF-8."""
    return hashlib.sha256(json.dumps(list(text), ensure_ascii=False, separators=(",", ":")).encode()).digest()


def chained(before: bytes, row: bytes) -> bytes:
    """The next hash of the chain."""
    return hashlib.sha256(before + row).digest()


@dataclass(slots=True)
class Verifier:
    """Follows the chain and records the findings, each with the number of its audit row if there is one."""

    seq: int
    hash: bytes
    checked: int = 0
    wrong: int = 0
    findings: list[str] = field(default_factory=list[str])
    passed: set[str] = field(default_factory=set[str])
    watch: frozenset[str] = frozenset()
    """Hashes, in hex, that the chain must contain; `passed` are the hashes found so far."""

    def link(
        self, seq: int, audit_id: int, stored: bytes, hash: bytes, text: Sequence[str] | None, dropped: bool
    ) -> None:
        """Check the next link. `text` is None when its audit row is missing, which is correct if its day was
        `dropped`."""
        if seq != self.seq + 1:
            self.found(f"links {self.seq + 1} to {seq - 1} of the chain are missing")
        elif hash != chained(self.hash, stored):
            self.found(f"link {seq} of the chain (audit row {audit_id}) does not follow from the one before")
        if text is None:
            if not dropped:
                self.found(f"audit row {audit_id} is missing")
        elif row_hash(text) != stored:
            self.found(f"audit row {audit_id} was changed")
        self.seq, self.hash = seq, hash
        self.checked += 1
        if self.watch and hash.hex() in self.watch:
            self.passed.add(hash.hex())

    def unchained_row(self, audit_id: int) -> None:
        """Note an audit row that is missing from the chain."""
        self.found(f"audit row {audit_id} was put in, or its link was taken out")

    def end(self, seq: int, hash: bytes) -> None:
        """Check the end of the chain against the recorded head."""
        if (self.seq, self.hash) != (seq, hash):
            self.found(f"the chain ends at link {self.seq} instead of link {seq}")
        for expected in sorted(self.watch - self.passed):
            self.found(f"the hash {expected} is not in the chain")

    def found(self, what: str) -> None:
        """Record a finding."""
        self.wrong += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(what)
