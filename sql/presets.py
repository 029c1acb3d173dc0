"""The `presets` table: templates that operators save, besides the shipped ones."""

from __future__ import annotations

from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from onsembl.protocol.presets import Preset
from onsembl.protocol.shipped_presets import SHIPPED
from onsembl.sql.database import Connection

_KINDS = "case when kind is null then kinds else array[kind] end as kinds"
_PRESET = f"name, description, template, variables, priority, kind, {_KINDS}, limits, rules, report"
COLUMNS = f"{_PRESET}, revision, created_at, updated_at, updated_by, updated_by_name"


async def list_presets(conn: Connection) -> list[DictRow]:
    """The saved presets, by name."""
    cursor = await conn.execute(f"select {COLUMNS} from presets order by lower(name)")
    return await cursor.fetchall()


async def get(conn: Connection, name: str) -> DictRow | None:
    """A saved preset, locked until the transaction ends; case makes no difference."""
    cursor = await conn.execute(f"select {COLUMNS} from presets where lower(name) = lower(%s) for update", [name])
    return await cursor.fetchone()


async def find(conn: Connection, name: str) -> Preset | None:
    """The preset of this name, shipped or saved. Raises msgspec.ValidationError for a row that is no preset."""
    shipped = SHIPPED.get(name.lower())
    if shipped is not None:
        return shipped
    cursor = await conn.execute(f"select {_PRESET} from presets where lower(name) = lower(%s)", [name])
    row = await cursor.fetchone()
    return msgspec.convert(row, Preset) if row is not None else None


async def save(conn: Connection, preset: Preset, by: UUID | None, by_name: str) -> DictRow:
    """Save a preset; it replaces the saved preset of its name."""
    kinds = preset.kinds or ([preset.kind] if preset.kind is not None else [])
    cursor = await conn.execute(
        f"""insert into presets (name, description, template, variables, priority, kind, kinds, limits, rules,
                report, updated_by, updated_by_name)
            values (%(name)s, %(description)s, %(template)s, %(variables)s, %(priority)s, %(kind)s, %(kinds)s,
                %(limits)s, %(rules)s, %(report)s, %(by)s, %(by_name)s)
            on conflict (lower(name)) do update
            set name = excluded.name, description = excluded.description, template = excluded.template,
                variables = excluded.variables, priority = excluded.priority, kind = excluded.kind,
                kinds = excluded.kinds, limits = excluded.limits, rules = excluded.rules, report = excluded.report,
                revision = presets.revision + 1, updated_at = now(), updated_by = excluded.updated_by,
                updated_by_name = excluded.updated_by_name
            returning {COLUMNS}""",
        {
            **msgspec.structs.asdict(preset),
            "kind": kinds[0] if len(kinds) == 1 else None,  # the release before reads this alone
            "kinds": kinds,
            "variables": Jsonb(msgspec.to_builtins(preset.variables)),
            "limits": Jsonb(msgspec.to_builtins(preset.limits)),
            "rules": Jsonb(msgspec.to_builtins(preset.rules)),
            "by": by,
            "by_name": by_name,
        },
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def rename(conn: Connection, name: str, new_name: str) -> int | None:
    """Rename a preset, also in the schedules that use it; return the number of these schedules. None when the new name
    is taken: the transaction is then aborted."""
    try:
        await conn.execute("update presets set name = %s where lower(name) = lower(%s)", [new_name, name])
    except psycopg.errors.UniqueViolation:
        return None
    cursor = await conn.execute("update schedules set preset = %s where lower(preset) = lower(%s)", [new_name, name])
    return cursor.rowcount


async def delete(conn: Connection, name: str) -> DictRow | None:
    """Delete a preset; return its row, None when it does not exist."""
    cursor = await conn.execute(f"delete from presets where lower(name) = lower(%s) returning {COLUMNS}", [name])
    return await cursor.fetchone()
