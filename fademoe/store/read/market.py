"""Whole ranges of a series, as backtests and paper accounts read them, and what is covered and absent of it."""

import io
from collections.abc import Sequence
from typing import NamedTuple

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from fademoe.clock import LATEST_MS, Window, merge, subtract
from fademoe.metrics import INTERVALS_MS, METRICS, parse_metric
from fademoe.store.coverage import Series
from fademoe.store.queries import load_queries
from fademoe.store.read.catalog import list_inputs, list_perpspecs
from fademoe.store.read.past import Knowledge, Moment
from fademoe.store.read.rows import build_relation

SQL = load_queries("read_market")
STORED = sql.Identifier("perp_data")


class Known(NamedTuple):
    """What was answered of a series, ascending, and what of that the exchange does not have."""

    covered: tuple[Window, ...]
    absent: tuple[Window, ...]


class Contract(NamedTuple):
    """A life of a contract: None where the exchange does not say, or while it trades."""

    symbol: str
    listed_ms: int | None
    delisted_ms: int | None


def read_lines(
    cursor: Cursor,
    series: Series,
    metric: str,
    window: Window,
    *,
    timed: bool = False,
    rows: sql.Composable = STORED,
) -> bytes:
    """Return the rows of a window, oldest first, a line each: ts and the columns of the metric, \\N for none.

    They are the lines that `certify` hashes; with `timed` the interval stands behind ts. `rows`: the relation that
    stands for perp_data, such as `build_past_rows` makes.
    """
    columns = sql.SQL(", ").join(
        sql.Identifier(column.name) if column.text else sql.SQL(SQL["value"]).format(column=sql.Identifier(column.name))
        for column in METRICS[metric].columns
    )
    query = sql.SQL(SQL["timed_lines" if timed else "lines"]).format(
        columns=columns,
        rows=rows,
        source=sql.Literal(series.source),
        symbol=sql.Literal(series.symbol),
        start=sql.Literal(window.start_ms),
        end=sql.Literal(window.end_ms),
    )
    buffer = io.BytesIO()
    cursor.copy_expert(query.as_string(cursor).replace("%%", "%"), buffer)  # COPY takes no parameters
    return buffer.getvalue()


def build_past_rows(cursor: Cursor, source: str, metric: str, at_ms: int) -> sql.Composable:
    """Return the relation that stands for perp_data: the rows of a source as this database held them at a time."""
    spec = list_perpspecs(cursor)[source]
    names = [column.name for column in METRICS[metric].columns]
    return build_relation(cursor, spec, names, Moment(at_ms, Knowledge.RECORDED))


def read_known(cursor: Cursor, series: Series, at_ms: int | None = None) -> Known:
    """Return what is covered and absent of a series; with `at_ms` without the rows that this database got later."""
    cursor.execute(SQL["coverage"], {"source": series.source, "symbol": series.symbol})
    covered, absent = cursor.fetchone() or ((), ())
    later = [] if at_ms is None else _list_later(cursor, series, at_ms)
    held = [part for pair in covered for part in subtract(Window(*pair), later)]
    return Known(tuple(held), tuple(Window(*pair) for pair in absent))


def _list_later(cursor: Cursor, series: Series, at_ms: int) -> list[Window]:
    """Return where a series, or its inputs, has rows that came after a moment, and all that lies after it."""
    later = [Window(at_ms, LATEST_MS)]
    for source in list_inputs(cursor, series.source) or [series.source]:
        metric = METRICS[parse_metric(source)]
        span_ms = metric.compute_final_ms(0, INTERVALS_MS.get(metric.interval, 0))
        values = {"source": source, "symbol": series.symbol, "at": at_ms, "span": span_ms}
        cursor.execute(SQL["later"], values)
        later += [Window(*pair) for pair in cursor.fetchall()]
    return merge(later)


def read_lags(cursor: Cursor) -> dict[str, dict[str, int]]:
    """Return the lags in force, in ms, by source and interval."""
    cursor.execute(SQL["lags"])
    lags: dict[str, dict[str, int]] = {}
    for source, interval, lag_ms in cursor.fetchall():
        lags.setdefault(source, {})[interval] = lag_ms
    return lags


def list_contracts(cursor: Cursor, code: str, symbols: Sequence[str] | None) -> list[Contract]:
    """Return the lives of the contracts of a code, of some symbols or of all, by symbol, the oldest first."""
    cursor.execute(SQL["contracts"], {"code": code, "symbols": None if symbols is None else list(symbols)})
    return [Contract(*row) for row in cursor.fetchall()]


def find_newest_correction(cursor: Cursor) -> int | None:
    """Return the id of the newest correction."""
    cursor.execute(SQL["newest_correction"])
    newest: int | None = (cursor.fetchone() or (None,))[0]
    return newest


def count_corrections(cursor: Cursor, sources: Sequence[str], symbols: Sequence[str], window: Window) -> int:
    """Return how many values of some series were corrected in a window."""
    values = {"sources": list(sources), "symbols": list(symbols), "start": window.start_ms, "end": window.end_ms}
    cursor.execute(SQL["corrections"], values)
    return int((cursor.fetchone() or (0,))[0])
