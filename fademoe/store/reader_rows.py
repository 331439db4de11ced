"""Rows of perp_data in pages: always by key, so the thousandth page costs as much as the first."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window
from fademoe.store.reader import Reader
from fademoe.store.reader_catalog import Perpspec, symbols

LIMIT_MOST = 10_000
EXPORT_PAGE_ROWS = 10_000
HEAD_START = 4  # how many times its fair share of a page is read of each symbol to find where the page ends


class Position(NamedTuple):
    """The last row of a page; the next page begins behind it."""

    ts: int
    symbol: str


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which rows of a perpspec: start_ms <= ts < end_ms of `symbols` (none: all), at most `limit` behind `after`."""

    symbols: tuple[str, ...]
    columns: tuple[str, ...]
    start_ms: int
    end_ms: int
    limit: int
    newest_first: bool = True
    after: Position | None = None


class Page(NamedTuple):
    """Rows (ts, symbol, interval, values of the selected columns…), numbers as text; where the next page begins."""

    rows: list[tuple[Any, ...]]
    next: Position | None


_ONE_SYMBOL = """
    SELECT ts, symbol, interval, {columns} FROM perp_data
    WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(low)s AND ts < %(high)s
    ORDER BY ts {direction} LIMIT %(limit)s
"""
# A page over many symbols. `edge` is the time behind which the page cannot reach, found on a few index entries of each
# symbol; then only rows up to it are read. Without it, every symbol would be read `limit` rows deep.
_MANY_SYMBOLS = """
    WITH bounds AS (
        SELECT * FROM unnest(%(symbols)s::text[], %(lows)s::bigint[], %(highs)s::bigint[]) AS b(symbol, low, high)
    ), edge AS MATERIALIZED (
        SELECT (
            SELECT x.ts FROM bounds b CROSS JOIN LATERAL (
                SELECT d.ts FROM perp_data d
                WHERE d.source = %(source)s AND d.symbol = b.symbol AND d.ts >= b.low AND d.ts < b.high
                ORDER BY d.ts {direction} LIMIT %(each)s
            ) x ORDER BY x.ts {direction} OFFSET %(limit)s - 1 LIMIT 1
        ) AS ts
    )
    SELECT d.* FROM edge CROSS JOIN bounds b CROSS JOIN LATERAL (
        SELECT ts, symbol, interval, {columns} FROM perp_data
        WHERE source = %(source)s AND symbol = b.symbol
          AND ts >= CASE WHEN %(newest)s THEN coalesce(edge.ts, b.low) ELSE b.low END
          AND ts < CASE WHEN %(newest)s THEN b.high ELSE coalesce(edge.ts + 1, b.high) END
        ORDER BY ts {direction} LIMIT %(limit)s
    ) d ORDER BY d.ts {direction}, d.symbol COLLATE "C" LIMIT %(limit)s
"""


def page(cursor: Cursor, spec: Perpspec, selection: Selection) -> Page:
    """Read one page of a perpspec."""
    chosen = selection.symbols or symbols(cursor, spec.name)
    if not chosen:
        return Page([], None)
    lows, highs = zip(*(_bounds(selection, symbol) for symbol in chosen), strict=True)
    query = sql.SQL(_ONE_SYMBOL if len(chosen) == 1 else _MANY_SYMBOLS).format(
        columns=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in selection.columns),
        direction=sql.SQL("DESC" if selection.newest_first else "ASC"),
    )
    limit = selection.limit + 1  # one more than wanted: it tells whether there is a next page
    values = {"source": spec.name, "limit": limit, "newest": selection.newest_first}
    if len(chosen) == 1:
        values |= {"symbol": chosen[0], "low": lows[0], "high": highs[0]}
    else:
        each = max(1, -(-HEAD_START * limit // len(chosen)))
        values |= {"symbols": list(chosen), "lows": list(lows), "highs": list(highs), "each": each}
    cursor.execute(query, values)
    rows = cursor.fetchall()
    if len(rows) <= selection.limit:
        return Page(rows, None)
    del rows[selection.limit :]
    return Page(rows, Position(rows[-1][0], rows[-1][1]))


def pages(reader: Reader, spec: Perpspec, selection: Selection) -> Iterator[list[tuple[Any, ...]]]:
    """Read all rows of a selection, page by page; each page is a read of its own, so no transaction stays open."""
    part = replace(selection, limit=EXPORT_PAGE_ROWS)
    while True:
        with reader.read() as cursor:
            rows, following = page(cursor, spec, part)
        yield rows
        if following is None:
            return
        part = replace(part, after=following)


def _bounds(selection: Selection, symbol: str) -> Window:
    """Return the times in which rows of `symbol` may lie on this page.

    At the time of the last page's end only the symbols behind its last one still have rows to come.
    """
    start_ms, end_ms, after = selection.start_ms, selection.end_ms, selection.after
    if after is None:
        return Window(start_ms, end_ms)
    if selection.newest_first:
        return Window(start_ms, min(end_ms, after.ts + 1 if symbol > after.symbol else after.ts))
    return Window(max(start_ms, after.ts if symbol > after.symbol else after.ts + 1), end_ms)
