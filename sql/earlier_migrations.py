"""Migrations that earlier versions of the program applied, and the repairs that update such a database.

Before migrations were frozen, a file could be edited or renumbered after databases had applied it; since then, one was
renumbered that had the number of another. Such a database records the file under its former name and checksum.
`EARLIER` maps each of these files to a current migration, and names the SQL files of sql/repairs/ that add the missing
objects. The list is complete: a test compares it with every version in git.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EarlierMigration:
    """A migration with its former name and checksum; `today` is its current name.

    Without `apply_again`, the migration counts as the current file once the repairs are made; with it, the current file
    is applied after the repairs.
    """

    name: str
    checksum: str
    today: str
    repairs: tuple[str, ...] = ()
    apply_again: bool = False


EARLIER = (
    EarlierMigration(
        "standin/0002_auth.sql",
        "67c00158bb4da6894daecc01bc2af2bbb49e6de81adff8df6b3abdf155a169b0",
        today="standin/0002_auth.sql",
        repairs=("auth_columns.sql",),
    ),
    EarlierMigration(
        "standin/0003_realtime.sql",
        "dc4a974b1ed10449d8ce7b7a05c94644eb38cd63958d1d583b48069eebfbe893",
        today="standin/0003_realtime.sql",
        repairs=("realtime_functions.sql",),
        apply_again=True,
    ),
    EarlierMigration(
        "migrations/0005_audit_chain.sql",
        "a966ffcf8fd6ac5f5196e89f80671331a9f48e8f12b72894ba4237926da2aeb8",
        today="migrations/0006_audit_chain.sql",
    ),
    EarlierMigration(
        "migrations/0019_doors.sql",
        "563c2fa5f3ee243113612c0d0996b7720c14b5b5a6eb949b7aaa66692445579e",
        today="migrations/0019_doors.sql",
        repairs=("device_requests_network.sql", "enrolment_tokens_id.sql"),
    ),
    EarlierMigration(
        "migrations/0019_doors.sql",
        "1e1fee767edc5115c96ca61701147452fc622697ca3a2f6dafbb75665b296d01",
        today="migrations/0019_doors.sql",
        repairs=("enrolment_tokens_id.sql",),
    ),
    EarlierMigration(
        "migrations/0021_recorded_commands.sql",
        "d11d0dd10378142e317c9b23cd1c74ff5a1b1812d1363c8ae137198bb68d6112",
        today="migrations/0020_recorded_commands.sql",
    ),
    EarlierMigration(
        "migrations/0022_instances_reached.sql",
        "27169b85a424a13f35ddec198d653c96e1e448e0c6010d8fbdd496cac1f9313f",
        today="migrations/0021_instances_reached.sql",
    ),
    EarlierMigration(
        "migrations/0023_notes_and_skips.sql",
        "7aa8fa5b9adf7b8213a40d3b697eab92b8db52b76545fdfe0c0b80905805d046",
        today="migrations/0022_notes_and_skips.sql",
    ),
    EarlierMigration(
        "migrations/0041_reports.sql",
        "d54350a465d51a21dfc6c6bb7ce23e2a2c79c480ae0180fa68d820225ed8d0b4",
        today="migrations/0042_reports.sql",
    ),
)


def recognised(applied: Mapping[str, str]) -> list[EarlierMigration]:
    """The earlier migrations of a database, found by the names and checksums that it records."""
    return [earlier for earlier in EARLIER if applied.get(earlier.name) == earlier.checksum]
