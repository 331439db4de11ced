"""A certificate of a range of a series: what was expected, what is there, why not more, and a hash of the rows."""

import hashlib
from typing import NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window, floor_to, to_iso
from fademoe.metrics import METRICS
from fademoe.store.coverage import CONFIRMED_CHECKS, NO_ROW, Series
from fademoe.store.derived import make_relation
from fademoe.store.queries import load_queries

SQL = load_queries("certificate")


class PastRows(NamedTuple):
    """A moment, and the relation of the rows that were known then, in the place of perp_data."""

    at_ms: int
    rows: sql.Composable


def certify(
    cursor: Cursor, series: Series, metric: str, window: Window, interval_ms: int, *, sparse: bool
) -> dict[str, object]:
    """Return the certificate of a window on the feed's grid.

    Expected, present, absent and missing count steps of `interval_ms`. A step is missing where any part of it is not
    covered, else present where it has a row. A live feed may have a finer interval and several rows in a step: `rows`
    counts all of them. A sparse series has no expected steps, and its present ones are its rows.
    The hash is SHA-256 over one line per row, oldest first: ts and the values in the order of the metric's columns,
    separated by tabs, without trailing zeros, \\N for none. So it is the same on every machine that has the same rows.
    """
    rows, digest = _hash(cursor, series, metric, window)
    return {
        "source": series.source,
        "symbol": series.symbol,
        "from": to_iso(window.start_ms),
        "to": to_iso(window.end_ms),
        **count_steps(cursor, series, window, interval_ms, sparse=sparse, rows=rows),
        "rows": rows,
        "sha256": digest,
    }


def count_steps(
    cursor: Cursor,
    series: Series,
    window: Window,
    interval_ms: int,
    *,
    sparse: bool,
    rows: int,
    past: PastRows | None = None,
) -> dict[str, object]:
    """Return what a certificate says of the steps of a window that has so many rows, see `certify`.

    As of a moment a step is missing, too, where a row of it was not known then, or where it ends later.
    """
    values = {"source": series.source, "symbol": series.symbol, "start": window.start_ms, "end": window.end_ms}
    values |= {"step": interval_ms, "no_row": NO_ROW, "confirmed": CONFIRMED_CHECKS}
    stored = make_relation(series.source)
    known, later = stored, sql.SQL(SQL["none_later"]).format()
    if past is not None:
        known, later = past.rows, sql.SQL(SQL["later"]).format(rows=stored)
        values["at"] = past.at_ms
    missing_steps = sql.SQL(SQL["missing_steps"]).format(known=known, later=later)
    cursor.execute(sql.SQL(SQL["steps"]).format(missing=missing_steps), values)
    present, missing, unexplained, provisional = cursor.fetchone() or (0, 0, 0, 0)
    if past is not None:
        over_ms = floor_to(past.at_ms, interval_ms)
        values["end"] = max(window.start_ms, min(window.end_ms, over_ms))
    cursor.execute(sql.SQL(SQL["absent_steps"]).format(missing=missing_steps, rows=stored), values)
    return {
        "expected": None if sparse else (window.end_ms - window.start_ms) // interval_ms,
        "present": rows if sparse else present,
        "absent": dict(cursor.fetchall()),
        "provisional": provisional,
        "missing": missing,
        "complete": missing == 0 and (sparse or unexplained == 0),
    }


def count_rows(cursor: Cursor, series: Series, window: Window) -> int:
    """Return how many rows of a series a window has."""
    values = {"source": series.source, "symbol": series.symbol, "start": window.start_ms, "end": window.end_ms}
    cursor.execute(sql.SQL(SQL["count"]).format(rows=make_relation(series.source)), values)
    return int((cursor.fetchone() or (0,))[0])


def _hash(cursor: Cursor, series: Series, metric: str, window: Window) -> tuple[int, str]:
    """Return how many rows a window has, and their hash."""
    columns = sql.SQL(", ").join(
        sql.SQL(SQL["text" if column.text else "value"]).format(column=sql.Identifier(column.name))
        for column in METRICS[metric].columns
    )
    values = {"source": series.source, "symbol": series.symbol, "start": window.start_ms, "end": window.end_ms}
    cursor.execute(sql.SQL(SQL["lines"]).format(columns=columns, rows=make_relation(series.source)), values)
    digest, rows = hashlib.sha256(), 0
    while lines := cursor.fetchmany(10_000):
        rows += len(lines)
        digest.update("".join(f"{line}\n" for (line,) in lines).encode())
    return rows, digest.hexdigest()
