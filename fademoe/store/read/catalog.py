"""What is stored: perpspecs with their fields, and the symbols of each; never by a scan of perp_data."""

from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor


@dataclass(frozen=True, kw_only=True)
class Field:
    """One column of a perpspec, as its registration declared it."""

    name: str
    unit: str
    title: str
    type: str  # "decimal" or "integer"


@dataclass(frozen=True, kw_only=True)
class Perpspec:
    """One value of perp_data.source and the columns it fills."""

    name: str
    exchange: str
    metric: str
    title: str
    interval: str
    fields: tuple[Field, ...]


_PERPSPECS = """
    SELECT p.perpspec_name, p.exchange, p.metric, m.title, m.interval, p.fields
    FROM perpspec_schema p JOIN metric_catalog m USING (metric)
    ORDER BY p.perpspec_name
"""
_SYMBOLS = "SELECT symbol FROM perp_coverage WHERE source = %(source)s ORDER BY symbol"
# Rows that nobody recorded the coverage of: one index probe per symbol, not a scan (1 ms where DISTINCT takes 2 s).
_LOOSE_SYMBOLS = """
    WITH RECURSIVE found AS (
        (SELECT symbol FROM perp_data WHERE source = %(source)s ORDER BY symbol LIMIT 1)
        UNION ALL
        SELECT (SELECT d.symbol FROM perp_data d WHERE d.source = %(source)s AND d.symbol > f.symbol
                ORDER BY d.symbol LIMIT 1)
        FROM found f WHERE f.symbol IS NOT NULL
    )
    SELECT symbol FROM found WHERE symbol IS NOT NULL
"""
_ENDS = """
    SELECT
        (SELECT min(x.ts) FROM unnest(%(symbols)s::text[]) AS s(symbol) CROSS JOIN LATERAL (
            SELECT ts FROM perp_data d WHERE d.source = %(source)s AND d.symbol = s.symbol ORDER BY ts LIMIT 1) x),
        (SELECT max(x.ts) FROM unnest(%(symbols)s::text[]) AS s(symbol) CROSS JOIN LATERAL (
            SELECT ts FROM perp_data d WHERE d.source = %(source)s AND d.symbol = s.symbol ORDER BY ts DESC LIMIT 1) x)
"""


def perpspecs(cursor: Cursor) -> dict[str, Perpspec]:
    """Return every registered perpspec by name, sorted."""
    cursor.execute(_PERPSPECS)
    return {
        name: Perpspec(
            name=name,
            exchange=exchange,
            metric=metric,
            title=title,
            interval=interval,
            fields=tuple(Field(**field) for field in fields),
        )
        for name, exchange, metric, title, interval, fields in cursor.fetchall()
    }


def symbols(cursor: Cursor, source: str) -> list[str]:
    """Return the symbols of a perpspec, sorted."""
    cursor.execute(_SYMBOLS, {"source": source})
    found = [symbol for (symbol,) in cursor.fetchall()]
    if not found:
        cursor.execute(_LOOSE_SYMBOLS, {"source": source})
        found = [symbol for (symbol,) in cursor.fetchall()]
    return found


def ends(cursor: Cursor, source: str, of_symbols: list[str]) -> tuple[int | None, int | None]:
    """Return the ts of the oldest and of the newest row of a perpspec."""
    cursor.execute(_ENDS, {"source": source, "symbols": of_symbols})
    row = cursor.fetchone()
    return (row[0], row[1]) if row else (None, None)
