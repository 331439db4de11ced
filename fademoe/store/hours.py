"""Hours of stored series (perp_hours): made behind the edge of the coverage, and again when their rows change.

A writer of rows into an hour that may be made already marks that hour in the same transaction, and a trigger does so
for rows that are changed; a reader computes such hours from their rows until they are made again.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.clock import HOUR_MS, MINUTE_MS, Window, merge, now_ms
from fademoe.metrics import INTERVALS_MS, METRICS, parse_metric
from fademoe.store.aggregation import Value, list_values, make_buckets, make_rows_part
from fademoe.store.coverage import Series
from fademoe.store.queries import load_queries

SQL = load_queries("hours")
SETTLE_MS = 15 * MINUTE_MS  # after its end an hour may be made; the clocks of two hosts are not that far apart


class Due(NamedTuple):
    """Whole hours of a series that are covered and over, but not made."""

    series: Series
    window: Window


def mark_changed(cursor: Cursor, new: Iterable[tuple[Series, Sequence[int]]]) -> None:
    """Say that rows were stored at these times; before `coverage.record`, in the transaction that stored them.

    Hours that run by this host's clock cannot be made yet and are left out.
    """
    running = now_ms() // HOUR_MS
    changed: list[tuple[str, str, list[int]]] = []
    for series, times in sorted(new):
        hours = {ts // HOUR_MS for ts in times}  # a plain loop: this is done for every row that is stored
        over = [hour * HOUR_MS for hour in sorted(hours) if hour < running]
        if over:
            changed.append((*series, over))
    if changed:
        execute_values(cursor, SQL["mark"], changed, "(%s, %s, %s::bigint[])", page_size=len(changed))


def list_due(cursor: Cursor, sources: Sequence[str], limit: int) -> list[Due]:
    """Return hours of these perpspecs that are to be made, the newest ones first."""
    until_ms = now_ms() - SETTLE_MS
    cursor.execute(SQL["due"], {"sources": list(sources), "until": until_ms, "limit": limit})
    return [Due(Series(source, symbol), Window(start, end)) for source, symbol, start, end in cursor.fetchall()]


def list_stale_series(cursor: Cursor, limit: int) -> list[Series]:
    """Return series with hours whose rows changed."""
    cursor.execute(SQL["stale_series"], {"limit": limit})
    return [Series(*row) for row in cursor.fetchall()]


def drop_unmade(cursor: Cursor) -> None:
    """Forget changes of hours that are not made: they will be made from the rows as they are then."""
    cursor.execute(SQL["drop_unmade"])


def renew(cursor: Cursor, series: Series) -> int:
    """Recompute the hours of a series whose rows changed; return how many.

    The entries are taken away first, so that a change which is committed meanwhile keeps its own.
    """
    cursor.execute(SQL["take_stale"], {"source": series.source, "symbol": series.symbol})
    hours = {hour_ms for (hour_ms,) in cursor.fetchall()}
    count = 0
    for window in merge(Window(hour_ms, hour_ms + HOUR_MS) for hour_ms in hours if _is_made(cursor, series, hour_ms)):
        count += make(cursor, series, window)
    return count


def make(cursor: Cursor, series: Series, window: Window) -> int:
    """Make the hours of a window of a series from its rows, whatever of them is there; return how many."""
    metric = METRICS[parse_metric(series.source)]
    values = list_values(metric.name)
    parameters = {
        "source": series.source,
        "symbol": series.symbol,
        "start": window.start_ms,
        "end": window.end_ms,
        "symbols": [series.symbol],
        "lows": [window.start_ms],
        "highs": [window.end_ms],
        "first": window.start_ms,
        "step": HOUR_MS,
        "grid": INTERVALS_MS.get(metric.interval, 1),
    }
    cursor.execute(SQL["delete"], parameters)
    names = sql.SQL(", ").join(sql.Identifier(value.name) for value in values)
    columns = sql.SQL("").join(sql.SQL(", d.{}").format(sql.Identifier(value.name)) for value in values)
    buckets = make_buckets([make_rows_part(series.source, values)], values, columns)
    query = sql.SQL(SQL["insert"]).format(names=names, buckets=buckets, values=sql.SQL(", ").join(map(_store, values)))
    cursor.execute(query, parameters)
    cursor.execute(SQL["enter_made"], parameters)
    return (window.end_ms - window.start_ms) // HOUR_MS


def list_up_to_date(cursor: Cursor, source: str, symbols: Iterable[str], window: Window) -> dict[str, list[Window]]:
    """Return the ranges of a window that perp_hours has as the rows are now, by symbol."""
    parameters = {"source": source, "symbols": list(symbols), "start": window.start_ms, "end": window.end_ms}
    cursor.execute(SQL["up_to_date"], parameters)
    ranges: dict[str, list[Window]] = {}
    for symbol, start_ms, end_ms in cursor.fetchall():
        ranges.setdefault(symbol, []).append(Window(start_ms, end_ms))
    return ranges


def forget_before(cursor: Cursor, kept_from_ms: int) -> None:
    """Remove the hours whose rows are dropped."""
    cursor.execute(SQL["forget_before"], {"kept_from": kept_from_ms})
    cursor.execute(SQL["forget_made_before"], {"kept_from": kept_from_ms})


def _is_made(cursor: Cursor, series: Series, hour_ms: int) -> bool:
    window = {"start": hour_ms, "end": hour_ms + HOUR_MS}
    cursor.execute(SQL["made_within"], {"source": series.source, "symbol": series.symbol, **window})
    return cursor.fetchone() == (True,)


def _store(value: Value) -> sql.Composable:
    """Return an aggregate in the type of its column."""
    kind = "bigint" if value.type == "integer" else "numeric"
    return sql.SQL("d.{}::{}").format(sql.Identifier(value.name), sql.SQL(kind))
