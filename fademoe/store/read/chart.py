"""Points for charts: rows of one series joined into steps by PostgreSQL, on a full grid, so that a hole stays a hole.

Numbers are floats here: they become pixels. Everything exact comes from `reader_rows`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import Window
from fademoe.store.read.catalog import Perpspec

# How the rows of a step become one value. What is not named here is a state: its last value in the step counts.
FIRST, HIGHEST, LOWEST, TOTAL = "first", "max", "min", "sum"
JOINED = {
    "o": FIRST,
    "h": HIGHEST,
    "l": LOWEST,
    "v": TOTAL,
    "qv": TOTAL,
    "n": TOTAL,
    "tbv": TOTAL,
    "lql": TOTAL,
    "lqs": TOTAL,
}


class Points(NamedTuple):
    """Columns of equal length; `ts` is the begin of each step."""

    ts: list[int]
    columns: dict[str, list[float | None]]


_ROWS = """
    SELECT ts, {columns} FROM perp_data
    WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s ORDER BY ts
"""
# First and last values are fetched by their key: faster than carrying every row of a step along.
_STEPS = """
    WITH steps AS (
        SELECT ts - ts %% %(step)s AS step, min(ts) AS first_ts, max(ts) AS last_ts{totals} FROM perp_data
        WHERE source = %(source)s AND symbol = %(symbol)s AND ts >= %(start)s AND ts < %(end)s GROUP BY 1
    )
    SELECT s.step, {columns} FROM steps s
    JOIN perp_data f ON f.source = %(source)s AND f.symbol = %(symbol)s AND f.ts = s.first_ts
    JOIN perp_data t ON t.source = %(source)s AND t.symbol = %(symbol)s AND t.ts = s.last_ts
    ORDER BY s.step
"""


def points(
    cursor: Cursor, spec: Perpspec, symbol: str, window: Window, *, step_ms: int | None, own_step_ms: int | None
) -> Points:
    """Return one series in steps of `step_ms`; None leaves the rows as they are, and makes no grid.

    `own_step_ms` is the distance of the rows as stored: no step is shorter.
    """
    names = [field.name for field in spec.fields]
    joins = step_ms is not None and (own_step_ms is None or step_ms > own_step_ms)
    query = _steps_query(names) if joins else _rows_query(names)
    values = {
        "source": spec.name,
        "symbol": symbol,
        "start": window.start_ms,
        "end": window.end_ms,
        "step": step_ms,
    }
    cursor.execute(query, values)
    rows = cursor.fetchall()
    if step_ms is None:
        return Points([row[0] for row in rows], _columns(names, rows))
    return _on_grid(names, rows, window, max(step_ms, own_step_ms or 0))


def _on_grid(names: Sequence[str], rows: list[tuple[float | None, ...]], window: Window, step_ms: int) -> Points:
    by_step = {row[0]: row for row in rows}
    first = window.start_ms - window.start_ms % step_ms
    grid = list(range(first, window.end_ms, step_ms))
    nothing = (None,) * (len(names) + 1)
    return Points(grid, _columns(names, [by_step.get(ts, nothing) for ts in grid]))


def _columns(names: Sequence[str], rows: list[tuple[float | None, ...]]) -> dict[str, list[float | None]]:
    if not rows:
        return {name: [] for name in names}
    _, *columns = zip(*rows, strict=True)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def _rows_query(names: Sequence[str]) -> sql.Composable:
    columns = [sql.SQL("{}::float8").format(sql.Identifier(name)) for name in names]
    return sql.SQL(_ROWS).format(columns=sql.SQL(", ").join(columns))


def _steps_query(names: Sequence[str]) -> sql.Composable:
    joined = [name for name in names if JOINED.get(name, FIRST) != FIRST]
    totals = [sql.SQL(", {}({}) AS {}").format(sql.SQL(JOINED[name]), *[sql.Identifier(name)] * 2) for name in joined]
    columns = [
        sql.SQL("{}.{}::float8").format(sql.SQL("s" if name in joined else _side(name)), sql.Identifier(name))
        for name in names
    ]
    return sql.SQL(_STEPS).format(totals=sql.SQL("").join(totals), columns=sql.SQL(", ").join(columns))


def _side(name: str) -> str:
    """Return which row of a step holds the value of a column: the first (`f`) or the last one (`t`)."""
    return "f" if JOINED.get(name) == FIRST else "t"
