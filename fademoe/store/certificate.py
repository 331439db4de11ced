"""A certificate of a range of a series: what was expected, what is there, why not more, and a hash of the rows."""

import hashlib

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window, to_iso
from fademoe.metrics import METRICS
from fademoe.store import coverage
from fademoe.store.coverage import CONFIRMED_CHECKS, NO_ROW, Series


def certify(
    cursor: Cursor, series: Series, metric: str, window: Window, interval_ms: int, *, sparse: bool
) -> dict[str, object]:
    """Return the certificate of a window on the feed's grid.

    The hash is SHA-256 over one line per row, oldest first: ts and the values in the order of the metric's columns,
    separated by tabs, without trailing zeros, \\N for none. So it is the same on every machine that has the same rows.
    """
    present, digest = _hash(cursor, series, metric, window)
    missing = sum(gap.end_ms - gap.start_ms for gap in coverage.missing(cursor, series, window))
    reasons = _reasons(cursor, series, window, interval_ms)
    expected = None if sparse else (window.end_ms - window.start_ms) // interval_ms
    explained = present + sum(reasons.values()) + missing // interval_ms
    return {
        "source": series.source,
        "symbol": series.symbol,
        "from": to_iso(window.start_ms),
        "to": to_iso(window.end_ms),
        "expected": expected,
        "present": present,
        "absent": reasons,
        "provisional": _provisional(cursor, series, window, interval_ms),
        "missing": missing // interval_ms,
        "complete": missing == 0 and (expected is None or explained == expected),
        "sha256": digest,
    }


def _hash(cursor: Cursor, series: Series, metric: str, window: Window) -> tuple[int, str]:
    columns = sql.SQL(", ").join(
        sql.SQL("coalesce(trim_scale({}::numeric)::text, '\\N')").format(sql.Identifier(column.name))
        for column in METRICS[metric].columns
    )
    cursor.execute(
        sql.SQL(
            "SELECT concat_ws(E'\\t', ts, {}) FROM perp_data"
            " WHERE source = %s AND symbol = %s AND ts >= %s AND ts < %s ORDER BY ts"
        ).format(columns),
        (*series, *window),
    )
    digest, present = hashlib.sha256(), 0
    while lines := cursor.fetchmany(10_000):
        present += len(lines)
        digest.update("".join(f"{line}\n" for (line,) in lines).encode())
    return present, digest.hexdigest()


def _provisional(cursor: Cursor, series: Series, window: Window, interval_ms: int) -> int:
    """Return how many of the absent rows are not confirmed by two runs: they are requested again."""
    cursor.execute(
        "SELECT coalesce(sum(least(end_ms, %s) - greatest(start_ms, %s)), 0) FROM perp_absence"
        " WHERE source = %s AND symbol = %s AND start_ms < %s AND end_ms > %s AND reason = %s AND checks < %s",
        (window.end_ms, window.start_ms, *series, window.end_ms, window.start_ms, NO_ROW, CONFIRMED_CHECKS),
    )
    return int((cursor.fetchone() or (0,))[0]) // interval_ms


def _reasons(cursor: Cursor, series: Series, window: Window, interval_ms: int) -> dict[str, int]:
    """Return how many rows are absent for each reason."""
    cursor.execute(
        "SELECT reason, sum(least(end_ms, %s) - greatest(start_ms, %s)) FROM perp_absence"
        " WHERE source = %s AND symbol = %s AND start_ms < %s AND end_ms > %s GROUP BY reason ORDER BY reason",
        (window.end_ms, window.start_ms, *series, window.end_ms, window.start_ms),
    )
    return {reason: int(span) // interval_ms for reason, span in cursor.fetchall()}
