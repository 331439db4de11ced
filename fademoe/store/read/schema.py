"""The tables as they are: columns, types, indexes, sizes. Knows only FadeMoe's own tables."""

from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

# What each table is for; a table that is not here is not shown.
TABLES = {
    "perp_data": "The market data: one row per time, symbol and perpspec",
    "perp_coverage": "What is wanted, covered and absent of each series, as ranges of time",
    "perp_absence": "Ranges that an exchange does not have, with the reason",
    "perp_corrections": "What an audit or a late liquidation changed: old and new value of each cell",
    "perp_metadata": "The contracts: the exchange's name, multiplier, contract value, listing",
    "perpspec_schema": "The perpspecs and the columns they fill",
    "metric_catalog": "The metrics with columns, units and titles",
    "perp_status": "One row per unit: what it does now",
    "perp_status_history": "Every change of state, and every action of a user",
    "perp_errors": "Every error with the request that failed",
    "schema_migrations": "Which migrations were applied",
}


class Column(NamedTuple):
    """One column of a table."""

    name: str
    type: str
    nullable: bool
    default: str | None


class Index(NamedTuple):
    """One index of a table."""

    name: str
    definition: str
    primary: bool
    unique: bool


class Size(NamedTuple):
    """What a table takes; `rows` is PostgreSQL's estimate, None before the first ANALYZE."""

    table: str
    rows: int | None
    bytes: int
    partitions: int


_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
"""
_INDEXES = """
    SELECT c.relname, pg_get_indexdef(i.indexrelid), i.indisprimary, i.indisunique
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = to_regclass(%(table)s) ORDER BY NOT i.indisprimary, c.relname
"""
# A partitioned table is empty itself: its size is that of its partitions (or of its Timescale chunks, which inherit).
_SIZES = """
    WITH RECURSIVE tree AS (
        SELECT c.relname AS root, c.oid FROM pg_class c
        WHERE c.oid IN (SELECT to_regclass(name) FROM unnest(%(tables)s::text[]) AS name)
        UNION ALL
        SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
    )
    SELECT t.root, CASE WHEN bool_or(c.reltuples >= 0) THEN sum(greatest(c.reltuples, 0))::bigint END,
           sum(pg_total_relation_size(c.oid))::bigint, (count(*) - 1)::int
    FROM tree t JOIN pg_class c ON c.oid = t.oid
    GROUP BY t.root ORDER BY t.root
"""
# Compressed chunks lie in tables that inherit from nobody: TimescaleDB has to be asked what all of it takes.
_IS_HYPERTABLE = """
    SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
       AND EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('perp_data') AND relkind = 'r')
"""


def columns(cursor: Cursor, table: str) -> list[Column]:
    """Return the columns of one of our tables, none when it is not there yet."""
    cursor.execute(_COLUMNS, {"table": table})
    return [Column(*row) for row in cursor.fetchall()]


def indexes(cursor: Cursor, table: str) -> list[Index]:
    """Return the indexes of one of our tables."""
    cursor.execute(_INDEXES, {"table": table})
    return [Index(*row) for row in cursor.fetchall()]


def sizes(cursor: Cursor) -> list[Size]:
    """Return the size of each of our tables."""
    cursor.execute(_SIZES, {"tables": list(TABLES)})
    found = [Size(*row) for row in cursor.fetchall()]
    cursor.execute(_IS_HYPERTABLE)
    if cursor.fetchone() != (True,):
        return found
    cursor.execute("SELECT total_bytes FROM hypertable_detailed_size('perp_data')")
    (whole,) = cursor.fetchone() or (0,)
    return [size._replace(bytes=whole) if size.table == "perp_data" else size for size in found]
