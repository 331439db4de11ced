"""Stored rows beside the exchange's: what differs, and the only way to change a stored value.

The audit does so, a stream where events of a minute came after its sum was stored, and a job that stores the row which
the value of a stored one is counted from.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from fademoe.clock import SECOND_MS, Window, now_ms
from fademoe.metrics import METRICS, Row
from fademoe.store.coverage import Series
from fademoe.store.queries import load_queries

SQL = load_queries("corrections")
Stored = Mapping[int, Sequence[str | None]]  # ts -> values as text, in the order of the metric's columns


class Difference(NamedTuple):
    """A value that is stored otherwise than the exchange has it."""

    ts: int
    column: str
    old: str | None
    new: str


def read_stored_rows(cursor: Cursor, series: Series, metric: str, interval: str, windows: Sequence[Window]) -> Stored:
    """Return the stored rows of a series inside `windows`, values in canonical text (no trailing zeros)."""
    columns = sql.SQL(", ").join(
        sql.SQL(SQL["value"]).format(column=sql.Identifier(column.name)) for column in METRICS[metric].columns
    )
    statement = sql.SQL(SQL["rows"]).format(columns=columns)
    stored: dict[int, Sequence[str | None]] = {}
    for start_ms, end_ms in windows:
        values = {"source": series.source, "symbol": series.symbol, "start": start_ms, "end": end_ms}
        cursor.execute(statement, {**values, "interval": interval})
        stored.update((row[0], row[1:]) for row in cursor.fetchall())
    return stored


def read_stored_times(cursor: Cursor, series: Series, times: Sequence[int]) -> set[int]:
    """Return those of `times` at which a row of any interval is stored."""
    cursor.execute(SQL["stored_times"], {"source": series.source, "symbol": series.symbol, "times": list(times)})
    return {ts for (ts,) in cursor.fetchall()}


def find_neighbours(cursor: Cursor, series: Series, edge_ms: int) -> tuple[int, int] | None:
    """Return the times of the last stored row before an edge and of the first one from it on, None unless both are."""
    cursor.execute(SQL["neighbours"], {"source": series.source, "symbol": series.symbol, "edge": edge_ms})
    before_ms, ts = cursor.fetchone() or (None, None)
    return None if before_ms is None or ts is None else (int(before_ms), int(ts))


def find_differences(metric: str, stored: Stored, rows: Mapping[int, Row]) -> list[Difference]:
    """Return the values that differ, for rows that both have; what the exchange does not send is left as it is."""
    changes = []
    for ts, row in rows.items():
        if ts not in stored:
            continue
        for column, old, new in zip(METRICS[metric].columns, stored[ts], row[1:], strict=True):
            if new is not None and (old is None or Decimal(old) != Decimal(str(new))):
                changes.append(Difference(ts, column.name, old, str(new)))
    return changes


def correct(
    cursor: Cursor, series: Series, interval: str, changes: Sequence[Difference], file_id: int | None = None
) -> int:
    """Change stored values and record old and new, in the caller's transaction; return how many were changed.

    A row of another interval, or a value that another transaction has changed meanwhile, is left as it is. `file_id`:
    by a file of an archive.
    """
    corrected = []
    for change in changes:
        statement = sql.SQL(SQL["correct"]).format(column=sql.Identifier(change.column))
        values = {"source": series.source, "symbol": series.symbol, "interval": interval, **change._asdict()}
        cursor.execute(statement, values)
        corrected += [change] * cursor.rowcount
    _record(cursor, [(*series, c.ts, c.column, c.old, c.new) for c in corrected], file_id)
    return len(corrected)


def record_missing(cursor: Cursor, series: Series, times: Sequence[int], file_id: int | None = None) -> None:
    """Record that rows which should have been there were added by the audit."""
    _record(cursor, [(*series, ts, "", None, None) for ts in times], file_id)


def _record(cursor: Cursor, rows: Sequence[tuple[object, ...]], file_id: int | None) -> None:
    at_s = now_ms() / SECOND_MS
    if rows:
        execute_values(cursor, SQL["record"], [(at_s, *row, file_id) for row in rows], SQL["record_row"])
