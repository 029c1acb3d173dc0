"""Describes the schema of a database as comparable lines of text, from the system catalogs.

The lines omit what may differ between databases of the same schema: object ids, the order of a table's columns (a
column that is added later is the last), and the dates in the names and bounds of daily partitions.
"""

from __future__ import annotations

import re

import psycopg

SYSTEM = "('pg_catalog', 'information_schema', 'pg_toast')"
OURS = f"n.nspname not in {SYSTEM} and n.nspname !~ '^pg_(toast_)?temp_'"
OF_NO_EXTENSION = "not exists (select from pg_depend e where e.objid = {}.oid and e.deptype = 'e')"
DAY = re.compile(r"(?<!\d)\d{4}[-_]?\d{2}[-_]?\d{2}( \d{2}:\d{2}:\d{2}(\+\d{2})?)?(?!\d)")
RELATION_KINDS = "('r', 'p', 'v', 'm', 'S', 'f')"


GRANT = """format('%s by %s to %s%s', g.privilege_type, g.grantor::regrole,
    case g.grantee when 0 then 'public' else g.grantee::regrole::text end,
    case when g.is_grantable then ' to grant' else '' end)"""


def grants(of: str, kind: str, owner: str) -> str:
    """SQL for an access list; an absent list equals the default one."""
    return f"""(select array_agg({GRANT} order by {GRANT})
        from aclexplode(coalesce({of}, acldefault('{kind}', {owner}))) g)"""


QUERIES = {
    "schema": f"""select n.nspname, n.nspowner::regrole, {grants("n.nspacl", "n", "n.nspowner")}
        from pg_namespace n where {OURS} and {OF_NO_EXTENSION.format("n")}""",
    "extension": """select x.extname, n.nspname from pg_extension x join pg_namespace n on n.oid = x.extnamespace""",
    "type": f"""select t.oid::regtype, t.typtype, t.typowner::regrole, t.typnotnull, t.typdefault,
            (select array_agg(enumlabel order by enumsortorder) from pg_enum where enumtypid = t.oid),
            {grants("t.typacl", "T", "t.typowner")}
        from pg_type t join pg_namespace n on n.oid = t.typnamespace
        where {OURS} and {OF_NO_EXTENSION.format("t")} and t.typelem = 0""",
    "relation": f"""select c.oid::regclass, c.relkind, c.relpersistence, c.relowner::regrole, c.relrowsecurity,
            c.relforcerowsecurity, c.relreplident, c.reloptions, (select amname from pg_am where oid = c.relam),
            case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end,
            pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
            (select array_agg(inhparent::regclass::text) from pg_inherits where inhrelid = c.oid),
            case c.relkind when 'S' then {grants("c.relacl", "s", "c.relowner")}
                else {grants("c.relacl", "r", "c.relowner")} end
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {OURS} and {OF_NO_EXTENSION.format("c")} and c.relkind in {RELATION_KINDS}""",
    "sequence": f"""select s.seqrelid::regclass, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
            s.seqcache, s.seqcycle
        from pg_sequence s join pg_class c on c.oid = s.seqrelid join pg_namespace n on n.oid = c.relnamespace
        where {OURS}""",
    "column": f"""select a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
            pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attstorage, a.attcompression,
            a.attcollation::regcollation, a.attislocal, a.attinhcount, a.attoptions,
            (select array_agg({GRANT} order by {GRANT}) from aclexplode(a.attacl) g)
        from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
            left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where {OURS} and a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'f', 'c')""",
    "constraint": f"""select k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid), k.convalidated,
            k.condeferrable, k.condeferred, k.conislocal, k.coninhcount,
            k.connoinherit and k.contype in ('c', 'n')
        from pg_constraint k join pg_namespace n on n.oid = k.connamespace where {OURS}""",
    "index": f"""select i.indexrelid::regclass, pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisreplident,
            i.indisclustered, c.reloptions
        from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
        where {OURS}""",
    "function": f"""select p.oid::regprocedure, pg_get_functiondef(p.oid), p.proowner::regrole,
            {grants("p.proacl", "f", "p.proowner")}
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where {OURS} and {OF_NO_EXTENSION.format("p")} and p.prokind <> 'a'""",
    "trigger": f"""select t.tgrelid::regclass, t.tgname, pg_get_triggerdef(t.oid), t.tgenabled,
            t.tgparentid <> 0 as inherited
        from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
        where {OURS} and not t.tgisinternal""",
    "rule": f"""select r.ev_class::regclass, r.rulename, pg_get_ruledef(r.oid), r.ev_enabled
        from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
        where {OURS} and r.rulename <> '_RETURN'""",
    "policy": f"""select p.polrelid::regclass, p.polname, p.polcmd, p.polpermissive,
            (select array_agg(case r when 0 then 'public' else r::regrole::text end order by r::regrole::text)
                from unnest(p.polroles) r),
            pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
        from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
        where {OURS}""",
    "publication": """select pubname, pubowner::regrole, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate,
            pubviaroot from pg_publication""",
    "published": """select p.pubname, r.prrelid::regclass, pg_get_expr(r.prqual, r.prrelid),
            (select array_agg(a.attname order by a.attname) from pg_attribute a
                where a.attrelid = r.prrelid and a.attnum = any (r.prattrs))
        from pg_publication_rel r join pg_publication p on p.oid = r.prpubid""",
    "published schema": """select p.pubname, s.pnnspid::regnamespace
        from pg_publication_namespace s join pg_publication p on p.oid = s.pnpubid""",
    "event trigger": "select evtname, evtevent, evtfoid::regproc, evtenabled, evttags from pg_event_trigger",
    "default grants": """select defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, defaclacl
        from pg_default_acl""",
    "comment": f"""select d.classoid::regclass, pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description
        from pg_description d join pg_class c on c.oid = d.objoid and d.classoid = 'pg_class'::regclass
            join pg_namespace n on n.oid = c.relnamespace where {OURS}""",
}


def schema_of(url: str) -> set[str]:
    """One line for each object, with all of its properties."""
    lines: set[str] = set()
    with psycopg.connect(url) as conn:
        conn.execute("select set_config('search_path', '', false)")  # Then every name has its schema.
        for kind, query in QUERIES.items():
            for row in conn.execute(query).fetchall():  # type: ignore[arg-type]
                line = " | ".join([kind, *map(str, row)])
                lines.add(line if kind == "function" else DAY.sub("DAY", line))
    return lines


def differences(one: set[str], other: set[str]) -> str:
    """The lines that only one of two schemas has, as a diff; empty when the schemas are equal."""
    return "\n".join(sorted([*(f"- {line}" for line in one - other), *(f"+ {line}" for line in other - one)]))
